"""PyTorch, for the backends that run through it."""

import contextlib
import threading

import numpy as np

from ..errors import BundleProblem, first_line

# PyTorch has one number of threads for the whole process, which a new thread takes over: pipelines that want one of
# their own take turns, or the last to leave would put back what another had set.
_NUM_THREADS_LOCK = threading.Lock()


def import_torch(manifest):
    """The module torch. Raises BundleProblem where it cannot be imported."""
    try:
        import torch
    except Exception as problem:  # one that is half installed raises whatever it meets
        message = "%s needs PyTorch, which cannot be imported: %s" % (manifest.root, first_line(problem))
        raise BundleProblem(message, install_hint(manifest))
    return torch


def install_hint(manifest):
    """How to get the PyTorch that the bundle asks for."""
    return "pip install 'torch%s'" % manifest.requirement("torch")


def last_line(problem):
    """What went wrong in a script: its errors begin with the whole stack of it."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines or [type(problem).__name__])[-1]


def run_on_cpu(torch, call, arrays, threads):
    """Outputs, a list of arrays, of `call` (tensors -> one tensor or several) for numpy arrays.

    Args: threads: of this call; None leaves it to PyTorch.
    """
    with contextlib.ExitStack() as stack:
        if threads is not None:
            stack.enter_context(_num_threads(torch, threads))
        stack.enter_context(torch.no_grad())
        outputs = call(*[torch.from_numpy(np.require(array, requirements="W")) for array in arrays])
    return [output.numpy() for output in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]


@contextlib.contextmanager
def _num_threads(torch, threads):
    with _NUM_THREADS_LOCK:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
