"""Load a compiled bundle, draw with it, time it. Needs Python 3.6, numpy and one inference engine.

    from ldmc.runtime import load          # with ldmc installed
    from runtime import load               # from inside a bundle, without it

    with load("faces.cpu.ldmc") as pipeline:
        image = pipeline.generate(seed=0, steps=20)     # uint8, H x W x 3

This package is copied into every bundle as it is: Python 3.6 syntax, standard library and numpy at
import time, relative imports only. The engine is imported when a bundle is loaded.
"""

import sys

from .errors import BundleProblem, InputProblem

__all__ = ["BundleProblem", "InputProblem", "Pipeline", "load"]


def __getattr__(name):
    """`load` and `Pipeline`, when they are first asked for: numpy comes with them, and not all here needs it."""
    if name not in ("Pipeline", "load"):
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    from . import loader
    return getattr(loader, name)


if sys.version_info < (3, 7):  # which does not ask modules
    from .loader import Pipeline, load
