"""The Python of a Jetson Nano, where this machine has one: `make python36` makes it."""

import functools
import os
import pathlib
import shutil
import subprocess

import pytest

MADE_BY_MAKE = pathlib.Path(__file__).resolve().parents[2] / ".venv36" / "bin" / "python"


def old_python(*modules):
    """A Python 3.6 that imports `modules` (numpy and ONNX Runtime where none are named); skips where there is none."""
    modules = modules or ("numpy", "onnxruntime")
    reasons = []
    for python in _candidates():
        reason = _what_is_wrong(python, modules)
        if reason is None:
            return python
        reasons.append("%s: %s" % (python, reason))
    wanted = "Python 3.6 with " + " and ".join(modules)
    pytest.skip("no %s; `make python36` or LDMC_PYTHON36 names one (%s)" % (wanted, "; ".join(reasons) or "none found"))


def _candidates():
    named = [os.environ.get("LDMC_PYTHON36"), str(MADE_BY_MAKE) if MADE_BY_MAKE.exists() else None,
             shutil.which("python3.6")]
    return [python for python in named if python]


@functools.lru_cache(maxsize=None)
def _what_is_wrong(python, modules):
    """None where it serves. A launcher of that name (pyenv's) is no proof that there is a Python behind it."""
    code = "import sys, %s; assert sys.version_info[:2] == (3, 6), sys.version" % ", ".join(modules)
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return (done.stderr.strip().splitlines() or ["it failed"])[-1] if done.returncode else None
