"""Inference engines, one module each. A module is imported when the first component of its form is opened.

A backend module has `open_part(manifest, part, options, remarks)`, which gives an object with

    run(arrays) -> list of arrays      positional, in the manifest's order; shapes and dtypes as the manifest says
    close()                            drops the engine's memory

It raises BundleProblem where the engine is missing or refuses the file, and appends to `remarks` (list of str)
what it could not do but can do without.
"""

import importlib

from ..errors import BundleProblem

MODULES = {"onnx": "onnxruntime_cpu", "engine": "tensorrt"}
# A part that says where it runs, beside its form.
PROVIDERS = {("onnx", "cuda"): "onnxruntime_cuda"}


class OpenOptions(object):
    """How to open a component.

    Args:
        threads: threads of one call; None leaves it to the engine.
        cache: keep the engine's optimised graph next to the model, and use it.
        verify: check the hashes of a kept graph too.
        keep_buffers: keep the working memory between calls: right for what is called in a loop.
    """

    def __init__(self, threads=None, cache=True, verify=False, keep_buffers=True):
        self.threads = threads
        self.cache = cache
        self.verify = verify
        self.keep_buffers = keep_buffers


def open_component(manifest, entry, options, remarks):
    """Opens one component of a bundle in the engines for its parts. Raises BundleProblem for a form without one."""
    modules = {_module(manifest, part) for part in entry.parts}
    if len(modules) > 1:
        raise BundleProblem("component %s of %s has parts for several engines" % (entry.name, manifest.root))
    backend = importlib.import_module("." + modules.pop(), __name__)
    if hasattr(backend, "open_parts"):
        return backend.open_parts(manifest, entry.parts, entry, options, remarks)
    return backend.open_part(manifest, entry.parts[0], options, remarks)


def _module(manifest, part):
    module = PROVIDERS.get((part.form, part.provider)) or MODULES.get(part.form)
    if module is None:
        message = "part %s of %s is in form %r; this runtime runs %s" % (
            part.name, manifest.root, part.form, ", ".join(sorted(MODULES)))
        raise BundleProblem(message, "use the runtime inside the bundle, or upgrade ldmc")
    return module
