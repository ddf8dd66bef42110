"""Load a compiled bundle, draw with it, time it. Needs Python 3.6, numpy and one inference engine.

    from ldmc.runtime import load          # with ldmc installed
    from runtime import load               # from inside a bundle, without it

    with load("faces.cpu.ldmc") as pipeline:
        image = pipeline.generate(seed=0, steps=20)     # uint8, H x W x 3

This package is copied into every bundle as it is: Python 3.6 syntax, standard library and numpy at
import time, relative imports only. The engine is imported when a bundle is loaded.
"""

import sys

from .module_search import own_folder_last

own_folder_last()  # before numpy is imported

from .errors import BundleProblem, InputProblem  # noqa: E402
from .numpy_check import numpy_problem  # noqa: E402

__all__ = ["BundleProblem", "InputProblem", "Pipeline", "load"]


def __getattr__(name):
    """`load` and `Pipeline`, when they are first asked for: they need numpy, which not all of this package does."""
    if name not in ("Pipeline", "load"):
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    problem = numpy_problem()
    if problem is not None:
        raise ImportError("%s (%s)" % (problem.message, problem.fix))
    from . import loader
    return getattr(loader, name)


if sys.version_info < (3, 7):  # which does not ask modules
    _problem = numpy_problem()
    if _problem is None:
        from .loader import Pipeline, load
    elif getattr(sys, "argv", [])[:1] != ["-m"]:  # of `python3 -m runtime`, which says it without a traceback
        raise ImportError("%s (%s)" % (_problem.message, _problem.fix))
