"""Packages of AOTInductor: machine code with its weights inside, run through PyTorch, on the CPU or an NVIDIA GPU.

What a package needs stands in the manifest, in `compiled` of its part, and is checked before it is loaded, because
PyTorch does not: code for another CPU ends the process.

    {"torch": "2.13.0", "device": "cpu", "machine": "x86_64", "capability": "AVX2"}      vector instructions
    {"torch": "2.13.0", "device": "cuda", "machine": "x86_64", "capability": "9.0"}      compute capability
"""

import platform

from .. import memory
from ..errors import BundleProblem, first_line
from ..versions import minor
from .aoti_cuda import CudaPart
from .pytorch import import_torch, install_hint, run_on_cpu

MODEL_NAME = "model"  # of the only one in a package
# What each has is in those after it; other machines have no such order.
X86_ORDER = ("DEFAULT", "AVX2", "AVX512")
REBUILD = "build the bundle again on this machine: --target %s --passes aoti"


class CpuPart(object):
    """One package on the CPU."""

    def __init__(self, torch, model, part, threads):
        self._torch = torch
        self._model = model
        self._part = part
        self._threads = threads

    def run(self, arrays):
        """Outputs for `arrays`, both in the manifest's order. Raises BundleProblem where PyTorch fails."""
        try:
            return run_on_cpu(self._torch, self._model, arrays, self._threads)
        except Exception as problem:  # the engine's errors share no narrower base
            raise BundleProblem("PyTorch failed to run component %s: %s" % (self._part.name, first_line(problem)))

    def close(self):
        """Drops the package and its memory."""
        self._model = None
        memory.give_back_freed()


def check(manifest, parts):
    """See `backends`."""
    torch = import_torch(manifest)
    for part in parts:
        _check_torch(torch, manifest, part.compiled["torch"])
        (_check_gpu if _is_on_gpu(part) else _check_cpu)(torch, manifest, part.compiled)


def open_part(manifest, part, options, remarks):
    """See `backends`."""
    check(manifest, [part])
    torch, on_gpu = import_torch(manifest), _is_on_gpu(part)
    model = _load(torch, manifest, part, on_gpu)
    return CudaPart(torch, model, part, remarks) if on_gpu else CpuPart(torch, model, part, options.threads)


def _is_on_gpu(part):
    return part.compiled["device"] == "cuda"


def _load(torch, manifest, part, on_gpu):
    """The package as a function of tensors that gives a list of tensors.

    By PyTorch's own loader and not by `torch._inductor.aoti_load_package` around it, which imports the whole compiler:
    5 s, and it calls g++ to see what this CPU can do.
    """
    path = manifest.listed_path(part.file)
    try:
        # One thread runs it on the GPU: what keeps threads apart cannot be captured.
        loader = torch._C._aoti.AOTIModelPackageLoader(path, MODEL_NAME, on_gpu, 1, -1)
    except Exception as problem:  # the engine's errors share no narrower base
        message = "PyTorch %s cannot load %s: %s" % (torch.__version__, path, first_line(problem))
        raise BundleProblem(message, "copy the bundle again whole, or build it again")
    return lambda *tensors: loader.run(list(tensors))


def _check_torch(torch, manifest, compiled):
    """Same major and minor version: the code calls PyTorch's insides."""
    found = torch.__version__
    if minor(found) != minor(compiled):
        message = "%s was compiled by PyTorch %s and runs with %s only; here is %s" % (
            manifest.root, compiled, minor(compiled), found)
        raise BundleProblem(message, install_hint(manifest))


def _check_cpu(torch, manifest, compiled):
    wanted = (compiled["machine"], compiled["capability"])
    found = (platform.machine(), torch.backends.cpu.get_cpu_capability())
    if found == wanted:
        return
    if found[0] == wanted[0] and wanted[1] in X86_ORDER and found[1] in X86_ORDER:
        if X86_ORDER.index(found[1]) >= X86_ORDER.index(wanted[1]):
            return
    message = "%s was compiled for a CPU of %s with %s, and this machine's is of %s with %s" % (
        (manifest.root,) + wanted + found)
    raise BundleProblem(message, REBUILD % manifest.target)


def _check_gpu(torch, manifest, compiled):
    wanted = "an NVIDIA GPU of compute capability %s" % compiled["capability"]
    if not torch.cuda.is_available():
        message = "%s was compiled for %s, and PyTorch %s finds no GPU here" % (
            manifest.root, wanted, torch.__version__)
        raise BundleProblem(message, "run it where that GPU is, with a PyTorch that is built for CUDA")
    found = ".".join(str(number) for number in torch.cuda.get_device_capability())
    if found != compiled["capability"]:
        message = "%s was compiled for %s, and this machine's is of %s" % (manifest.root, wanted, found)
        raise BundleProblem(message, REBUILD % manifest.target)
