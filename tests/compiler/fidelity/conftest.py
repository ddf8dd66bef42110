"""A bundle as the examination sees it: its manifest, and calls of the reference with what every block gave."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ldmc.artifacts.manifest import read_whole_manifest
from ldmc.compiler.driver import build
from ldmc.compiler.fidelity.by_block import compare_blocks
from ldmc.compiler.fidelity.calls import Call, Reference
from ldmc.compiler.fidelity.graph import JoinedGraph
from ldmc.compiler.fidelity.results import BlockResult
from ldmc.compiler.frontend import ModelRequest
from ldmc.compiler.original import open_original
from ldmc.compiler.progress import Silent
from ldmc.compiler.request import BuildRequest
from tests.compiler.fidelity.faults import graphs

QUIET = Silent()


@dataclass
class Examined:
    """A bundle and the calls it is compared on; `compare` takes it, or a broken copy of it."""

    bundle: Path
    calls: dict[str, list[Call]]
    scratch: Path

    def joined(self, component: str, bundle: Path | None = None) -> JoinedGraph:
        entry = read_whole_manifest(self.bundle).components[component]
        names = [[spec.name for spec in side] for side in (entry.inputs, entry.outputs)]
        return JoinedGraph(graphs(bundle or self.bundle, component), *names)

    def compare(self, component: str, bundle: Path | None = None) -> list[BlockResult]:
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            graph = self.joined(component, bundle)
            return compare_blocks(component, graph, self.calls[component], Path(folder), lambda _: None)

    def departing(self, component: str, bundle: Path) -> list[str]:
        return [row.block for row in self.compare(component, bundle) if row.departs]


def built(model: Path, output: Path, passes: str | None, target: str = "cpu") -> Path:
    build(BuildRequest(target, ModelRequest(str(model)), passes=passes, output=output), QUIET)
    return output


def examined(bundle: Path, scratch: Path) -> Examined:
    manifest = read_whole_manifest(bundle)
    opened, program = open_original(manifest.data["source"], None)
    reference = Reference(opened, program, manifest, 3, 2, scratch)
    return Examined(bundle, dict(reference.calls(["unet", "decoder"], QUIET)), scratch)


@pytest.fixture(scope="session")
def fp32(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    """The tiny model in fp32."""
    return examined(tiny_bundle, tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="session")
def fp16(tiny_bundle_fp16: Path, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    """The tiny model in fp16."""
    return examined(tiny_bundle_fp16, tmp_path_factory.mktemp("fp16"))


@pytest.fixture(scope="session")
def parts(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    """The tiny model in fp16 and three parts."""
    folder = tmp_path_factory.mktemp("parts")
    bundle = built(tiny_model, folder / "parts.cpu.ldmc", "fp16,onnx,fold,partition{parts=3}")
    return examined(bundle, folder)


@pytest.fixture(scope="session")
def nano(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model for a Jetson Nano, whose engines are not built."""
    return built(tiny_model, tmp_path_factory.mktemp("nano") / "tiny.jetson-nano.ldmc", None, "jetson-nano")


@pytest.fixture(scope="session")
def script(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in TorchScript."""
    return built(tiny_model, tmp_path_factory.mktemp("script") / "tiny.cpu.ldmc", "torchscript")


@pytest.fixture(scope="session")
def named(fp32: Examined, fp16: Examined, parts: Examined) -> Callable[[str], Examined]:
    """One of the three by its name."""
    return {"fp32": fp32, "fp16": fp16, "parts": parts}.__getitem__
