"""What operators a TensorRT version's ONNX parser takes: the tables that onnx-tensorrt publishes, one JSON file each.

    operator_table("8.2").supports("MatMul", "INT32")    ->    False

The tables speak of types by NVIDIA's names (FP32); here they are asked by ONNX's (FLOAT).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ldmc.errors import UsageError
from ldmc.runtime.versions import release
from ldmc.targets.operator_tables import operator_versions, read_operators

# ONNX's name of a type -> the table's. The parser turns DOUBLE into FP32.
_TYPES = {
    "FLOAT": "FP32",
    "DOUBLE": "FP32",
    "FLOAT16": "FP16",
    "BFLOAT16": "BF16",
    "FLOAT8E4M3FN": "FP8",
    "FLOAT4E2M1": "FP4",
}
_NATIVE_INT64 = (10, 0)  # before it, the parser turns INT64 into INT32


@dataclass(frozen=True)
class OperatorTable:
    """One parser version. opset_max: the newest opset it is documented to read.

    types: operator -> types it takes, in the table's names; an operator that is not there is not taken. An operator
    with no types is one that the parser imports and the table says nothing about.
    """

    version: tuple[int, int]
    opset_max: int
    source: str
    types: Mapping[str, frozenset[str]]

    def supports(self, op: str, dtype: str = "") -> bool:
        """Whether operator `op` is taken; with `dtype` (`FLOAT16`), on tensors of that type."""
        if op not in self.types:
            return False
        types = self.types[op]
        return not dtype or not types or self.name_of(dtype) in types

    def name_of(self, dtype: str) -> str:
        """The table's name of what ONNX calls `dtype`."""
        if dtype == "INT64" and self.version < _NATIVE_INT64:
            return "INT32"
        return _TYPES.get(dtype, dtype)


@cache
def operator_table(version: str) -> OperatorTable:
    """The table of TensorRT `version`, such as `8.2`.

    Raises:
        UsageError: there is none.
    """
    if version not in operator_versions():
        known = ", ".join(operator_versions())
        raise UsageError(f"there is no operator table for TensorRT {version!r}", fix=f"tables are {known}")
    data = read_operators(version)
    types = {op: frozenset(entry["types"]) for op, entry in data["ops"].items() if entry["supported"]}
    for op in data.get("registered_importers", ()):
        types.setdefault(op, frozenset())
    major, minor = release(version)[:2]
    return OperatorTable((major, minor), int(data["opset_max"]), data["source"], types)
