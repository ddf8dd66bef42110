"""Inference engines, one module each. A module is imported when the first component of its form is opened.

A backend module has `open_part(manifest, part, options, remarks)`, which gives an object with

    run(arrays) -> list of arrays      positional, in the manifest's order; shapes and dtypes as the manifest says
    close()                            drops the engine's memory

It raises BundleProblem where the engine is missing or refuses the file, and appends to `remarks` (list of str)
what it could not do but can do without.
"""

import importlib

from ..errors import BundleProblem

MODULES = {"onnx": "onnxruntime_cpu", "torchscript": "torchscript"}


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
    """Opens one component of a bundle in the engine for its form. Raises BundleProblem for a form without one."""
    part = entry.parts[0]
    module = MODULES.get(part.form)
    if module is None:
        message = "component %s of %s is in form %r; this runtime runs %s" % (
            entry.name, manifest.root, part.form, ", ".join(sorted(MODULES)))
        raise BundleProblem(message, "use the runtime inside the bundle, or upgrade ldmc")
    backend = importlib.import_module("." + module, __name__)
    return backend.open_part(manifest, part, options, remarks)
