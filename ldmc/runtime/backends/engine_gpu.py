"""The GPU that engines built ahead of time run on: asked for before an engine of hundreds of MiB is read.

The manifest says of each such engine which compute capability and which package it was built for. Engines that were
built on the device by `finish` carry no such entry: they are where they were built.
"""

from ..cuda import Cuda
from ..errors import BundleProblem


def open_gpu(manifest, parts):
    """CUDA on the GPU that the engines of `parts` (PartEntry) were built for.

    Raises: BundleProblem where no GPU answers, or another.
    """
    built = _built_ahead(manifest, [part.name for part in parts])
    if not built:
        return Cuda()
    wanted, package = built["compute_capability"], built["module"]
    try:
        cuda = Cuda()
        found = cuda.compute_capability()
    except BundleProblem as problem:
        raise BundleProblem(
            "the engines of %s run on an NVIDIA GPU of compute capability %s, and none answers here: %s" % (
                manifest.root, wanted, problem.message),
            "run the bundle where that GPU and its driver are (%s), after: pip install %s" % (manifest.target, package))
    if found != wanted:
        raise BundleProblem(
            "the engines of %s run on an NVIDIA GPU of compute capability %s, and this machine's is of %s" % (
                manifest.root, wanted, found),
            "build the bundle again for this GPU: trt{sm=%s}" % found.replace(".", ""))
    return cuda


def _built_ahead(manifest, names):
    """What the manifest says of the first of these engines; None where they were built on the device."""
    for component in manifest.data["components"].values():
        for engine in component.get("engine") or []:
            if engine["part"] in names:
                return engine
    return None
