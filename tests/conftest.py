"""Fixtures that every room's tests share: a tiny checkpoint in diffusers layout, and its bundle."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tiny_model import save_tiny_model

# A shell that starts the tests in the background has them ignore Ctrl-C, and so every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests of full-size models first, so that of processes that share them none is left with one alone."""
    heavy = {item.path for item in items if item.get_closest_marker("full")}
    items.sort(key=lambda item: item.path not in heavy)


def pytest_collection_finish() -> None:
    """What is there for good, a million objects of PyTorch, is not looked through at each collection of garbage."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Outcome:
    """What one run of the command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """stdout as the one JSON object it must be."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in diffusers layout with real (small) weights; read-only by agreement."""
    folder = tmp_path_factory.mktemp("models") / "tiny-ldm"
    save_tiny_model(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this run's own, for child processes too: what tests make is not noted in the user's own.

    Browsers and fonts stay where they are: making or fetching them takes long.
    """
    before = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name, kept in (("PLAYWRIGHT_BROWSERS_PATH", "ms-playwright"), ("MPLCONFIGDIR", "matplotlib")):
            patch.setenv(name, os.environ.get(name) or str(before / kept))
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture
def ldmc(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process: `ldmc("build", "--target", "cpu")`."""
    from ldmc.cli import main

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model compiled in fp32 with the cpu target's default passes; read-only by agreement."""
    return build_bundle(tiny_model, tmp_path_factory.mktemp("bundles") / "tiny.cpu.ldmc", "onnx,fold")


@pytest.fixture(scope="session")
def tiny_bundle_fp16(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model compiled in fp16; read-only by agreement."""
    return build_bundle(tiny_model, tmp_path_factory.mktemp("bundles") / "tiny16.cpu.ldmc", "fp16,onnx,fold")


def build_bundle(model: Path, output: Path, passes: str) -> Path:
    """Compile `model` through the driver, silently."""
    from ldmc.compiler.driver import build
    from ldmc.compiler.frontend import ModelRequest
    from ldmc.compiler.progress import Silent
    from ldmc.compiler.request import BuildRequest

    request = BuildRequest("cpu", ModelRequest(str(model)), passes=passes, output=output)
    build(request, Silent())
    return output
