"""The compiler: frontend, spec grammar, pipeline checking, driver, reports, graph diff."""

from ldmc.runtime.onnx_runtime import forbid_telemetry

# Here, because libraries of the compiler import ONNX Runtime themselves (onnxsim does), and processes that it starts.
forbid_telemetry()
