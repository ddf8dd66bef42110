"""ONNX Runtime on the GPU: the last rung of the ladder, for a part that TensorRT could not build on the device.

A part of the manifest with `"form": "onnx", "provider": "cuda"`. What the GPU provider lacks runs on the CPU.
"""

from ..errors import BundleProblem, first_line
from ..onnx_runtime import import_onnxruntime
from .onnxruntime_cpu import OnnxRuntimeComponent

PROVIDER = "CUDAExecutionProvider"
# On a board that shares its memory: grow by what is asked, not to the next power of two, and try convolution
# algorithms by rule, not by running each with all the workspace it wants.
# https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
OPTIONS = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
INSTALL = "install onnxruntime-gpu: for JetPack 4.6 version 1.11, from https://elinux.org/Jetson_Zoo"


def check(manifest, parts):
    """See `backends`."""
    engine = import_engine(manifest)
    if PROVIDER not in engine.get_available_providers():
        message = "ONNX Runtime %s here has no %s, which part %s of %s needs" % (
            engine.__version__, PROVIDER, parts[0].name, manifest.root)
        raise BundleProblem(message, INSTALL)


def open_part(manifest, part, options, remarks):
    """See `backends`."""
    check(manifest, [part])
    engine = import_engine(manifest)
    settings = engine.SessionOptions()
    settings.log_severity_level = 4  # fatal: an error is raised, and told once, without the colours of its log
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    path = manifest.listed_path(part.file)
    try:
        session = engine.InferenceSession(path, settings, providers=[(PROVIDER, OPTIONS), "CPUExecutionProvider"])
    except Exception as problem:  # the engine's errors share no narrower base
        reason = first_line(problem)
        raise BundleProblem("ONNX Runtime %s cannot load %s: %s" % (engine.__version__, path, reason), INSTALL)
    remarks.append("%s runs in ONNX Runtime, not in TensorRT: see finish.steps in %s" % (part.name, manifest.path))
    return OnnxRuntimeComponent(session, part)


def import_engine(manifest):
    """The module onnxruntime. Raises BundleProblem where it cannot be imported."""
    try:
        return import_onnxruntime()
    except Exception as problem:  # one that is half installed raises whatever it meets
        message = "%s needs ONNX Runtime with CUDA, which cannot be imported: %s" % (
            manifest.root, first_line(problem))
        raise BundleProblem(message, INSTALL)
