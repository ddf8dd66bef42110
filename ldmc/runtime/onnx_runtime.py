"""The one place that imports ONNX Runtime, and keeps it from calling home.

Since 1.31 its Linux and macOS builds write a device id into the user's cache folder when they are imported, and look up
their maker's collector some seconds later, from a thread of their own. `ORT_DISABLE_TELEMETRY` in the environment of
the import stops both; what its Python API offers (`disable_telemetry_events`) comes too late.
"""

import os

SWITCH = "ORT_DISABLE_TELEMETRY"


def forbid_telemetry():
    """Has ONNX Runtime, when it is imported here or in a child, send nothing; what the user set stays as it is."""
    os.environ.setdefault(SWITCH, "1")


def import_onnxruntime():
    """The module onnxruntime. Raises ImportError, or whatever else a broken installation raises."""
    forbid_telemetry()
    import onnxruntime
    return onnxruntime
