"""Operator tables, asked in ONNX's names."""

from __future__ import annotations

import pytest

from ldmc.errors import UsageError
from ldmc.targets.operator_tables import operator_versions
from ldmc.targets.operators import operator_table


@pytest.mark.parametrize(
    "version, op, dtype, wanted",
    [
        ("8.2", "MatMul", "FLOAT16", True),
        ("8.2", "MatMul", "INT32", False),
        ("8.2", "Gelu", "", False),
        ("8.2", "Gather", "INT64", True),  # read as INT32
        ("10.3", "Gather", "INT64", True),  # read as it is
        ("10.3", "Conv", "INT64", False),
        ("8.2", "Add", "DOUBLE", True),  # read as FLOAT
        ("8.2", "Add", "BFLOAT16", False),
        ("10.3", "Add", "BFLOAT16", True),
        ("8.2", "Reciprocal", "FLOAT", True),  # not in the table, and imported
        ("8.2", "OneHot", "", False),  # in the table as not supported
    ],
)
def test_supports(version: str, op: str, dtype: str, wanted: bool) -> None:
    assert operator_table(version).supports(op, dtype) is wanted


@pytest.mark.parametrize("version", operator_versions())
def test_every_table_reads(version: str) -> None:
    table = operator_table(version)
    assert table.version == tuple(int(part) for part in version.split("."))
    assert table.opset_max >= 13 and table.source
    assert table.supports("Conv", "FLOAT16") and not table.supports("Swizzle")


def test_a_table_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(UsageError, match="no operator table for TensorRT '7.1'") as caught:
        operator_table("7.1")
    assert "8.2" in caught.value.fix
