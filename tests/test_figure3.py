"""The reference project's Figure 3, by its own path at full size: every row that is not explained is equal."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.full
SCRIPT = Path(__file__).parent.parent / "benchmarks" / "figure3.py"
GIB = 2**30


@pytest.fixture(scope="module")
def figure3() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("figure3", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["figure3"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["figure3"]


@pytest.fixture(scope="module")
def built(figure3: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return figure3.build(figure3.PASSES, tmp_path_factory.mktemp("figure3"))


def test_every_row_but_those_explained_is_equal(figure3: ModuleType, built: tuple[Path, Any]) -> None:
    rows = {row.name: row for row in figure3.table(built[0])}
    assert {name for name, row in rows.items() if not row.equal} == {"Add", "Cast", "size, MiB"}
    # 32 biases merged; no Add besides
    assert rows["Add"].ours == (201, 185 - 32)
    # two around each of 61 normalisations, two at the timestep; one that changes nothing
    assert rows["Cast"].ours == (125, 124)


def test_what_their_graph_weighs_more_is_zeros(figure3: ModuleType, built: tuple[Path, Any]) -> None:
    size = figure3.table(built[0])[-1]
    assert size.theirs[0] - size.theirs[1] == pytest.approx(figure3.ADDEND_MIB, abs=0.15)
    assert size.ours[0] == pytest.approx(size.theirs[1], abs=0.5)
    assert size.ours[1] == pytest.approx(size.theirs[1], abs=0.5)


def test_the_weights_are_in_memory_once(built: tuple[Path, Any]) -> None:
    """PyTorch's own export of this network takes 5 GiB."""
    stages = [stage for stage in built[1]["stages"] if stage["component"] == "unet"]
    assert [stage["stage"] for stage in stages] == ["01-fp16", "02-torchscript", "03-onnx", "04-fold"]
    assert max(stage["peak_rss_bytes"] for stage in stages) < 2 * GIB
