"""Stand-ins for what only a Jetson has: TensorRT's Python API of two versions, the CUDA runtime, torchtrtc.

They take only names, arguments and values that the real thing takes; all else raises, or is refused, as there.
They run in Python 3.6 with numpy and ONNX Runtime alone, as the bundle's runtime does.
"""
