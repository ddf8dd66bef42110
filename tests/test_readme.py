"""The README's commands, run as they stand: every line of its code blocks that starts with `$ ldmc`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ {4}\$ ldmc (.+)$", README, flags=re.MULTILINE)
SNIPPET = re.search(r"^ {4}from ldmc\.runtime import load.*?(?=^\S)", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `examples/` in it; later commands find what earlier ones made."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def run(command: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ldmc", *shlex.split(command)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"ldmc {command}: exit {done.returncode}\n{done.stderr[-2000:]}"


def test_every_command_is_shown() -> None:
    shown = {shlex.split(command)[0] for command in COMMANDS}
    assert shown == {
        "build", "run", "bench", "compare", "report", "verify", "inspect", "diff", "passes", "targets", "plan",
        "doctor",
    }  # fmt: skip


def test_the_commands_run(workplace: Path) -> None:
    for command in COMMANDS:
        run(command, workplace)


def test_the_python_example_runs(workplace: Path) -> None:
    """The lines of "In your own program", with a latent and a timestep to use."""
    assert SNIPPET is not None
    lines = [line.removeprefix("    ") for line in SNIPPET.group().splitlines() if line.strip()]
    with_latent = "    latent, t = np.zeros((1, *pipeline.latent_shape), np.float32), 999"
    opening = next(k for k, line in enumerate(lines) if line.startswith("with "))
    lines.insert(opening + 1, with_latent)
    code = "\n".join(["import numpy as np", *lines, "assert image.dtype == np.uint8 and len(images) == 4"])
    subprocess.run([sys.executable, "-c", code], cwd=workplace, check=True)
