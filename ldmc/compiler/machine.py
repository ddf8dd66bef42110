"""What can be asked of the machine that ldmc runs on, without importing anything heavy into this process.

Installed packages are looked up in their metadata, modules by their folder, and what has to be tried is tried in a
process of its own, which may crash or hang without harm.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

TRY_SECONDS = 10.0
_JETPACK_PROGRAMS = Path("/usr/src/tensorrt/bin")  # where JetPack puts trtexec, which is not on PATH
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}  # as other systems than Linux call them


@dataclass(frozen=True)
class Answer:
    """What a process said. ok: it ended well. text: its output, or the last line of its complaint."""

    ok: bool
    text: str


@dataclass(frozen=True)
class Machine:
    """A machine, as far as toolchains are looked for.

    arch: as `uname -m` says it.
    version: distribution -> its installed version, or an empty text.
    folder: module -> the folder it is in, or None where there is no such module.
    program: program -> its path, or an empty text.
    run: arguments of a process -> its answer; waits `TRY_SECONDS` at most.
    """

    arch: str
    version: Callable[[str], str]
    folder: Callable[[str], Path | None]
    program: Callable[[str], str]
    run: Callable[[Sequence[str]], Answer]


def this_machine() -> Machine:
    """The machine we are on."""
    arch = platform.machine().lower()
    return Machine(_ARCHITECTURES.get(arch, arch), _version, _folder, _program, _run)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _folder(module: str) -> Path | None:
    """Found without an import: what a top-level module would be loaded from."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:  # a folder that is no package is not a module either
        return None
    return Path(spec.origin).parent


def _program(name: str) -> str:
    return shutil.which(name) or shutil.which(name, path=str(_JETPACK_PROGRAMS)) or ""


def _run(arguments: Sequence[str]) -> Answer:
    try:
        done = subprocess.run(
            list(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(False, f"no answer in {TRY_SECONDS:.0f} s")
    except OSError as error:
        return Answer(False, error.strerror or str(error))
    if done.returncode == 0:
        return Answer(True, done.stdout.strip())
    complaint = (done.stderr.strip() or done.stdout.strip()).splitlines()
    ended = f"killed by signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
    return Answer(False, complaint[-1] if complaint and done.returncode > 0 else ended)


def python(*arguments: str) -> list[str]:
    """The command line of a Python process like this one."""
    return [sys.executable, *arguments]
