"""ONNX Runtime as its GPU package is: the real one, which says it has CUDA, and computes on the CPU all the same.

What is asked of the CUDA provider is checked against the options it has:
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

import importlib
import sys
from pathlib import Path

OPTIONS = {
    "device_id": None, "gpu_mem_limit": None, "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"), "do_copy_in_default_stream": None,
}

_here = str(Path(__file__).parents[1])
sys.path.remove(_here)
del sys.modules["onnxruntime"]
_real = importlib.import_module("onnxruntime")
sys.path.insert(0, _here)
_providers = _real.get_available_providers()
_Session = _real.InferenceSession


class InferenceSession(_Session):
    """Takes the CUDA provider, checks its options, and does without it."""

    def __init__(self, path, sess_options=None, providers=None):
        kept = []
        for provider in providers:
            name, options = provider if isinstance(provider, tuple) else (provider, {})
            for key, value in options.items():
                if key not in OPTIONS or OPTIONS[key] and value not in OPTIONS[key]:
                    raise RuntimeError("invalid CUDA provider option: %s=%s" % (key, value))
            if name != "CUDAExecutionProvider":
                kept.append(name)
        _Session.__init__(self, path, sess_options, providers=kept)


_real.InferenceSession = InferenceSession
_real.get_available_providers = lambda: ["CUDAExecutionProvider"] + _providers
