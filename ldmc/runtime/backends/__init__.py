"""Inference engines, one module each. A module is imported when the first component of its form is opened.

A backend module has `open_part(manifest, part, options, remarks)`, which gives an object with

    run(arrays) -> list of arrays      positional, in the manifest's order; shapes and dtypes as the manifest says
    close()                            drops the engine's memory

A module may also have `open_parts(manifest, parts, entry, options, remarks)`: consecutive parts of its form as one such
object, between which it hands values on itself. `entry` has what they read and give together (`chain.Segment`).

It raises BundleProblem where the engine is missing or refuses the file, and appends to `remarks` (list of str)
what it could not do but can do without.

`check(manifest, parts)` raises BundleProblem for what opening would refuse whatever is in the files: a missing engine,
a machine of another kind. It reads none, and takes no time but that of importing the engine.
"""

import importlib

from ..checks.trust import require_trust
from ..chain import Chain, Segment, check_chain
from ..errors import BundleProblem
from .onnx_functions import refuse_functions

MODULES = {"onnx": "onnxruntime_cpu", "engine": "tensorrt", "torchscript": "torchscript", "aoti": "aoti"}
# A part that says where it runs, beside its form.
PROVIDERS = {("onnx", "cuda"): "onnxruntime_cuda"}


class OpenOptions(object):
    """How to open a component.

    Args:
        threads: threads of one call; None leaves it to the engine.
        cache: keep the engine's optimised graph next to the model, and use it.
        verify: check the hashes of a kept graph too.
        keep_buffers: keep the working memory between calls: right for what is called in a loop.
        vouched: `checks.opening.Vouched` of the bundle. Without it nothing is kept, and no native code or script runs.
    """

    def __init__(self, threads=None, cache=True, verify=False, keep_buffers=True, vouched=None):
        self.threads = threads
        self.cache = cache
        self.verify = verify
        self.keep_buffers = keep_buffers
        self.vouched = vouched


def check_bundle(manifest):
    """Refuses a bundle that cannot run on this machine, before anything of it is opened. Raises BundleProblem."""
    for name in sorted(manifest.components):
        entry = manifest.components[name]
        modules = [_module(manifest, part) for part in entry.parts]
        for module in sorted(set(modules)):
            _backend(module).check(manifest, [part for part, own in zip(entry.parts, modules) if own == module])


def open_component(manifest, entry, options, remarks):
    """Opens one component of a bundle, each part in the engine for it.

    Raises: BundleProblem for a form without an engine, for parts that do not fit together, and for parts that would
        run code which nobody vouches for.
    """
    check_chain(manifest, entry)
    for part in entry.parts:
        if part.form == "onnx":
            refuse_functions(manifest.file_path(part.file))
    modules = [_module(manifest, part) for part in entry.parts]
    if options.vouched is None:
        require_trust(manifest, entry.parts, False, None)
    else:
        options.vouched.require(entry.parts)
    links = []
    try:
        for start, stop in _runs(modules):
            segment = Segment(entry, start, stop)
            links.append((segment, _open_segment(manifest, segment, modules[start], options, remarks)))
    except BaseException:
        Chain(entry, links).close()
        raise
    return links[0][1] if len(links) == 1 else Chain(entry, links)


def _runs(modules):
    """(start, stop) of the parts that are opened together: consecutive ones of an engine that can; else one alone."""
    start = 0
    for stop in range(1, len(modules) + 1):
        ends = stop == len(modules) or modules[stop] != modules[start]
        if ends or not hasattr(_backend(modules[start]), "open_parts"):
            yield start, stop
            start = stop


def _open_segment(manifest, segment, module, options, remarks):
    backend = _backend(module)
    if hasattr(backend, "open_parts"):
        return backend.open_parts(manifest, segment.parts, segment, options, remarks)
    return backend.open_part(manifest, segment.parts[0], options, remarks)


def _backend(module):
    return importlib.import_module("." + module, __name__)


def _module(manifest, part):
    module = PROVIDERS.get((part.form, part.provider)) or MODULES.get(part.form)
    if module is None:
        message = "part %s of %s is in form %r; this runtime runs %s" % (
            part.name, manifest.root, part.form, ", ".join(sorted(MODULES)))
        raise BundleProblem(message, "use the runtime inside the bundle, or upgrade ldmc")
    return module
