"""No command looks up a name or opens a connection, the hub apart where a model of it is wanted.

Seen from below: ONNX Runtime's telemetry is C++ in a thread of its own, of which Python's sockets know nothing. A
library that is loaded before all others (doubles/network.c) writes down what the C library is asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkpoints import copy_model
from tests.hub_server import serving
from tests.runtime.tiny_bundle import make_bundle

ROOT = Path(__file__).resolve().parents[1]
SWITCHES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
# ONNX Runtime 1.31 looks its collector up 9 s after it was imported. On a slow machine less is seen, and none fails.
HOLD_SECONDS = 15
# Runs commands one after the other in one process, and keeps what they imported for a while.
COMMANDS = f"""
import json, sys, time
from ldmc.cli import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as ended:
        assert not ended.code, (command, ended.code)
assert "onnxruntime" in sys.modules
time.sleep({HOLD_SECONDS})
"""
DRAW = f"""
import sys, time
sys.path.insert(0, ".")
import runtime
with runtime.load(".") as pipeline:
    pipeline.generate(seed=3, steps=2)
    time.sleep({HOLD_SECONDS})
"""


@dataclass(frozen=True)
class Guard:
    """The preloaded library, and a home folder for the processes it watches."""

    library: Path
    folder: Path

    def start(self, arguments: list[str], cwd: Path, **extra: str) -> subprocess.Popen[str]:
        """A process under guard, of a user who set nothing."""
        kept = {key: value for key, value in os.environ.items() if key not in SWITCHES}
        home = {"HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / ".cache"),
                "HF_HOME": str(self.folder / "hub")}
        guard = {"LD_PRELOAD": str(self.library), "NETWORK_LOG": str(self.folder / "network.log")}
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**kept, "PYTHONPATH": str(ROOT), **home, **guard, **extra},
        )

    @property
    def seen(self) -> set[str]:
        """`getaddrinfo example.org 443`, `connect 127.0.0.1 80`, ..."""
        log = self.folder / "network.log"
        return set(log.read_text().splitlines()) if log.exists() else set()

    @property
    def telemetry_files(self) -> list[Path]:
        """What ONNX Runtime keeps of this user, such as a device id."""
        return [path for path in self.folder.rglob("*") if "onnxruntime" in path.name or path.name == "deviceid"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not sys.platform.startswith("linux"):
        pytest.skip("libraries are preloaded so on Linux only")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to make the guard with")
    library = tmp_path_factory.mktemp("guard") / "network.so"
    source = ROOT / "tests" / "doubles" / "network.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def guard(library: Path, tmp_path: Path) -> Iterator[Guard]:
    folder = tmp_path / "home"
    folder.mkdir()
    yield Guard(library, folder)


def finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate()
    assert process.returncode == 0, said


def test_the_guard_sees_and_refuses(guard: Guard, tmp_path: Path) -> None:
    code = """
import socket
for call in (lambda: socket.getaddrinfo("nobody.invalid", 443),
             lambda: socket.create_connection(("192.0.2.1", 80), 5),
             lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.2", 53))):
    try:
        call()
    except OSError:
        continue
    raise AssertionError("it was let out")
"""
    finish(guard.start(["-c", code], tmp_path))
    assert guard.seen == {"getaddrinfo nobody.invalid 443", "getaddrinfo 192.0.2.1 80", "sendto 192.0.2.2 53"}


def test_no_command_looks_up_a_name_or_connects(guard: Guard, tiny_model: Path, tmp_path: Path) -> None:
    import json

    commands = [
        ["build", "--target", "cpu", "--model", str(tiny_model), "-o", "x.ldmc", "--passes", "onnx,fold", "--verify"],
        ["plan", "--target", "cpu", "--model", str(tiny_model)],
        ["run", "x.ldmc", "--steps", "2", "-o", "x.png"],
        ["bench", "x.ldmc", "--steps", "1", "--runs", "1", "--no-report"],
        ["verify", "x.ldmc", "--by-stage", "--by-block", "--steps", "2"],
        ["report", "x.ldmc", "-o", "x.html"],
        ["inspect", "x.ldmc"],
        ["diff", "x.ldmc:unet:onnx", "x.ldmc:unet:fold"],
        ["compare", "paper:rtx-3070", "paper:android"],
        ["passes"],
        ["targets"],
        ["doctor"],
    ]  # fmt: skip
    bundle = make_bundle(tmp_path / "tiny.cpu.ldmc", runtime=True)
    drawing = guard.start(["-B", "-c", DRAW], bundle, PYTHONPATH="")
    finish(guard.start(["-c", COMMANDS, json.dumps(commands)], tmp_path))
    finish(drawing)
    assert guard.seen == set()
    assert guard.telemetry_files == []


def test_a_model_of_the_hub_is_asked_of_the_hub_alone(guard: Guard, tiny_model: Path, tmp_path: Path) -> None:
    with serving({"someone/tiny-ldm": copy_model(tiny_model, tmp_path / "whole")}) as hub:
        finish(guard.start(["-m", "ldmc", "plan", "--target", "cpu", "--model", "someone/tiny-ldm"], tmp_path,
                           HF_ENDPOINT=hub.endpoint))
    port = hub.endpoint.rpartition(":")[2]
    assert {" ".join(line.split()[1:]) for line in guard.seen} == {f"127.0.0.1 {port}"}
    assert guard.telemetry_files == []


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from ldmc.runtime.onnx_runtime import SWITCH, forbid_telemetry

    monkeypatch.setenv(SWITCH, "0")
    forbid_telemetry()
    assert os.environ[SWITCH] == "0"
    monkeypatch.delenv(SWITCH)
    forbid_telemetry()
    assert os.environ[SWITCH] == "1"
