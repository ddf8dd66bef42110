"""TorchScript through PyTorch alone: a frozen script with its weights inside, on the CPU.

The executor's own optimisation is off: it would time and rewrite the graph during the first calls, which takes
minutes on a small device (two calls of 200 to 670 s on a Jetson Nano), and a frozen graph has little left to gain.
"""


from .. import memory
from ..errors import BundleProblem
from .pytorch import import_torch, install_hint, last_line, run_on_cpu


class TorchScriptPart(object):
    """One script."""

    def __init__(self, torch, script, part, threads):
        self._torch = torch
        self._script = script
        self._part = part
        self._threads = threads

    def run(self, arrays):
        """Outputs for `arrays`, both in the manifest's order. Raises BundleProblem where PyTorch fails."""
        try:
            with self._torch.jit.optimized_execution(False):
                return run_on_cpu(self._torch, self._script, arrays, self._threads)
        except Exception as problem:  # the engine's errors share no narrower base
            raise BundleProblem("PyTorch failed to run component %s: %s" % (self._part.name, last_line(problem)))

    def close(self):
        """Drops the script and its memory."""
        self._script = None
        memory.give_back_freed()


def check(manifest, parts):
    """See `backends`."""
    import_torch(manifest)


def open_part(manifest, part, options, remarks):
    """See `backends`."""
    torch = import_torch(manifest)
    path = manifest.listed_path(part.file)
    try:
        script = torch.jit.load(path, map_location="cpu")
    except Exception as problem:  # the engine's errors share no narrower base
        message = "PyTorch %s cannot load %s: %s" % (torch.__version__, path, last_line(problem))
        raise BundleProblem(message, install_hint(manifest))
    return TorchScriptPart(torch, script, part, options.threads)
