"""Running a command under a hard memory limit: a memory cgroup of its own, version 1 or 2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


class NoCgroup(Exception):
    """No memory cgroup can be made here; the message says why."""


@dataclass(frozen=True)
class MemoryLimit:
    """A cgroup with a limit. peak_bytes: most that was charged to it, file cache included."""

    folder: Path
    version: int

    def run(self, command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run `command` inside the limit; beyond it the kernel kills it."""
        procs = self.folder / "cgroup.procs"

        def enter() -> None:
            procs.write_text(str(os.getpid()))

        return subprocess.run(command, cwd=cwd, preexec_fn=enter, capture_output=True, text=True, check=False)

    @property
    def peak_bytes(self) -> int:
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        return int((self.folder / name).read_text())


@contextmanager
def memory_limit(limit_bytes: int) -> Iterator[MemoryLimit]:
    """A new cgroup that may take `limit_bytes`, without swap; removed at the end.

    Raises:
        NoCgroup: the kernel or the permissions do not allow one.
    """
    version = 1 if (_V1 / "memory.limit_in_bytes").exists() else 2
    folder = (_V1 if version == 1 else _V2) / f"ldmc-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        raise NoCgroup(f"a memory cgroup cannot be made: {error}") from error
    try:
        _set_limit(folder, version, limit_bytes)
        yield MemoryLimit(folder, version)
    finally:
        folder.rmdir()


def _set_limit(folder: Path, version: int, limit_bytes: int) -> None:
    names = {1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), 2: ("memory.max", "memory.swap.max")}
    limit, swap = names[version]
    try:
        (folder / limit).write_text(str(limit_bytes))
        if (folder / swap).exists():
            (folder / swap).write_text(str(limit_bytes) if version == 1 else "0")
    except OSError as error:
        raise NoCgroup(f"the limit of a memory cgroup cannot be set: {error}") from error
