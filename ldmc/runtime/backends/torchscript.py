"""TorchScript through PyTorch alone: a frozen script with its weights inside, on the CPU.

The executor's own optimisation is off: it would time and rewrite the graph during the first calls, which takes
minutes on a small device (two calls of 200 to 670 s on a Jetson Nano), and a frozen graph has little left to gain.
"""

import gc

import numpy as np

from .. import memory
from ..errors import BundleProblem


class TorchScriptPart(object):
    """One script."""

    def __init__(self, torch, script, part, threads):
        self._torch = torch
        self._script = script
        self._part = part
        self._threads = threads

    def run(self, arrays):
        """Outputs for `arrays`, both in the manifest's order. Raises BundleProblem where PyTorch fails."""
        torch = self._torch
        before = torch.get_num_threads()
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            with torch.no_grad(), torch.jit.optimized_execution(False):
                outputs = self._script(*[torch.from_numpy(np.require(a, requirements="W")) for a in arrays])
        except Exception as problem:  # the engine's errors share no narrower base
            raise BundleProblem("PyTorch failed to run component %s: %s" % (self._part.name, _last_line(problem)))
        finally:
            if self._threads is not None:
                torch.set_num_threads(before)
        if len(self._part.outputs) == 1:
            outputs = [outputs]
        return [output.numpy() for output in outputs]

    def close(self):
        """Drops the script and its memory."""
        self._script = None
        gc.collect()
        memory.give_back_freed()


def open_part(manifest, part, options, remarks):
    """See `backends`."""
    torch = _import_torch(manifest)
    path = manifest.file_path(part.file)
    try:
        script = torch.jit.load(path, map_location="cpu")
    except Exception as problem:  # the engine's errors share no narrower base
        message = "PyTorch %s cannot load %s: %s" % (torch.__version__, path, _last_line(problem))
        raise BundleProblem(message, _install_hint(manifest))
    return TorchScriptPart(torch, script, part, options.threads)


def _import_torch(manifest):
    try:
        import torch
    except (ImportError, OSError) as problem:  # OSError: a library that it links is missing
        message = "%s needs PyTorch, which cannot be imported: %s" % (manifest.root, problem)
        raise BundleProblem(message, _install_hint(manifest))
    return torch


def _install_hint(manifest):
    return "pip install 'torch%s'" % manifest.requirement("torch")


def _last_line(problem):
    """What went wrong: a script's errors begin with the whole stack of it."""
    lines = [line for line in str(problem).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(problem).__name__
