"""What is no regular file, wherever a command reads one: refused in a sentence, and at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import checkpoints
from tests.conftest import Outcome

Run = Callable[..., Outcome]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def of_bundle(name: str) -> Callable[[Path], tuple[Path, list[str]]]:
    def place(work: Path) -> tuple[Path, list[str]]:
        command = ["inspect"] if name == "manifest.json" else ["report"]
        return work / "bundle.ldmc" / name, [*command, str(work / "bundle.ldmc")]

    return place


def of_model(name: str) -> Callable[[Path], tuple[Path, list[str]]]:
    return lambda work: (work / "model" / name, ["plan", "--target", "cpu", "--model", str(work / "model")])


def alone(*command: str, name: str = "file.json") -> Callable[[Path], tuple[Path, list[str]]]:
    return lambda work: (work / name, [str(work / name) if word == "FILE" else word for word in command])


PLACES = {
    "manifest": of_bundle("manifest.json"),
    "stage": of_bundle("reports/unet/01-onnx.json"),
    "plan": of_bundle("reports/memory.json"),
    "index": of_model("model_index.json"),
    "unet": of_model("unet/config.json"),
    "scheduler": of_model("scheduler/scheduler_config.json"),
    "result": alone("compare", "paper:android", "FILE"),
    "check": alone("report", "FILE"),
    "graph": alone("diff", "FILE", "FILE", name="file.onnx"),
    "target": alone("targets", "FILE", name="own.toml"),
}


@pytest.fixture(scope="module")
def work(tiny_model: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a bundle to damage."""
    folder = tmp_path_factory.mktemp("special")
    checkpoints.copy_model(tiny_model, folder / "model")
    shutil.copytree(tiny_bundle, folder / "bundle.ldmc")
    return folder


@pytest.mark.parametrize("make", [pipe, endless, loop])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_regular_file_is_refused(make: Callable[[Path], None], place: str, work: Path, ldmc: Run) -> None:
    file, command = PLACES[place](work)
    before = file.read_bytes() if file.exists() else None
    file.unlink(missing_ok=True)
    make(file)
    try:
        done = ldmc(*command, "-o", work / "page.html") if command[0] == "report" else ldmc(*command)
    finally:
        file.unlink()
        if before is not None:
            file.write_bytes(before)
    assert done.code in (1, 2) and done.err.startswith("error: ") or "\nerror: " in done.err
    assert file.name in done.err and "Traceback" not in done.err
