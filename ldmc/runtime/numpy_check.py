"""numpy, the one package that all of this needs: what is wrong with this machine's, if anything."""

import sys

from .errors import BundleProblem, first_line
from .versions import fits

NEEDED = ">=1.13"


def numpy_problem():
    """The BundleProblem of a numpy that is missing, broken or too old; None where it will do."""
    fix = "%s -m pip install 'numpy%s'; on a Jetson: sudo apt install python3-numpy" % (
        sys.executable or "python3", NEEDED)
    try:
        import numpy
        version = numpy.version.version  # of a folder that is only called numpy there is none
        numpy.zeros(1)
    except Exception as problem:  # one that is half installed, or for another Python, raises whatever it meets
        return BundleProblem("the runtime needs numpy, which cannot be imported: %s" % _reason(problem), fix)
    if not fits(version, NEEDED):
        return BundleProblem("the runtime needs numpy %s, and this is %s" % (NEEDED, version), fix)
    return None


def _reason(problem):
    """Of numpy's page of advice, the error behind it."""
    mark = "Original error was: "
    behind = [line for line in str(problem).splitlines() if line.startswith(mark)]
    return behind[0][len(mark):] if behind else first_line(problem)
