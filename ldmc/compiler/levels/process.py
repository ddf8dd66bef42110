"""The process of one level, from outside: asked in JSON lines, and stopped when a drawing would take too long."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldmc.runtime import stopping

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
_CLEAN_UP_SECONDS = 0.6  # where it does not unwind in the half of a second that it has, it cleans up from outside
_DOING = {"prepare": "preparing", "open": "opening", "memory": "asking"}
_MODULE = "ldmc.compiler.levels.worker"


class LevelStopped(Exception):
    """It would take longer than the limit. The text says how long."""


class LevelFailed(Exception):
    """It cannot be opened or run. The text says why."""


class LevelProcess:
    """A worker. Use it in a `with` statement: it is gone afterwards, whatever happened.

    log: what the worker and its libraries print.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("wb") as stream:
            self._child = subprocess.Popen(
                [sys.executable, "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
                text=True, start_new_session=True,
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """The worker's process number."""
        return self._child.pid

    def ask(
        self,
        question: str,
        arguments: dict[str, Any],
        limit_seconds: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Send one question and wait for its answer.

        limit_seconds: of the whole answer; a drawing is also stopped when its steps so far say that it would be over.

        Raises:
            LevelStopped: over the limit; the process is killed. LevelFailed: it said no, or ended.
        """
        assert self._child.stdin is not None
        start = time.monotonic()
        try:
            self._child.stdin.write(json.dumps({"question": question, "arguments": arguments}) + "\n")
            self._child.stdin.flush()
        except OSError:
            raise LevelFailed(self._ended()) from None
        steps, of, step_seconds = 0, 0, 0.0
        while True:
            answer = self._next()
            elapsed = time.monotonic() - start
            if answer is not None and "step" in answer:
                steps, of, step_seconds = answer["step"], answer["of"], elapsed
                if on_step is not None:
                    on_step(steps, of)
            elif answer is not None and "failed" in answer:
                raise LevelFailed(answer["failed"])
            elif answer is not None:
                return answer
            if limit_seconds is not None:
                self._hold(question, steps, of, step_seconds, elapsed, limit_seconds)

    def close(self) -> None:
        """End it, gently if it listens."""
        if self._child.poll() is None:
            assert self._child.stdin is not None
            try:
                self._child.stdin.close()
                self._child.wait(_GRACE_SECONDS)
            except (OSError, subprocess.TimeoutExpired):
                self.kill()
        self._child.wait()

    def kill(self) -> None:
        """End it at once: as soon as it has removed what it was writing."""
        self._child.terminate()
        try:
            self._child.wait(_CLEAN_UP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> LevelProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    def _hold(self, question: str, steps: int, of: int, step_seconds: float, elapsed: float, limit: float) -> None:
        """Stop it where it is over the limit, or will be."""
        projected = step_seconds / steps * of if steps else 0.0
        if max(projected, elapsed) <= limit:
            return
        self.kill()
        at_most = f"the limit is {duration(limit)} (--limit)"
        if question != "draw":
            raise LevelStopped(f"{_DOING[question]} it did not end within {duration(limit)}: {at_most}")
        if steps:
            raise LevelStopped(f"one UNet call takes {duration(step_seconds / steps)}, {of} of them "
                               f"{duration(projected)}: {at_most}")
        raise LevelStopped(f"no UNet call ended within {duration(limit)}: {at_most}")

    def _next(self) -> dict[str, Any] | None:
        """The next line, or None where none came for a while. Where a stop was asked for, that is raised."""
        stopping.check()
        try:
            line = self._lines.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return None
        if line is None:
            raise LevelFailed(self._ended())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _ended(self) -> str:
        """Why the process is gone."""
        code = self._child.wait()
        if code == -9:
            return "the system killed its process: it is out of memory; measure fewer levels in one run"
        said = [line for line in self._log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return f"its process ended with code {code}: {said[-1].strip()[:300] if said else 'it said nothing'}"


def duration(seconds: float) -> str:
    """`4.2 s`, `12 min`, `2.3 h`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
