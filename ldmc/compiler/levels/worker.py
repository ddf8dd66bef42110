"""The process of one level: opens it, draws when it is told to, and says what that took. JSON lines in and out,
`{"question": "open", "arguments": {...}}`:

    prepare  Options                       ->  {"prepare_seconds": ...}          once per machine; then it ends
    open     Options                       ->  {"load_seconds": ..., "private_bytes_after_load": ..., "remarks": [...]}
    draw     seed, steps, batch, picture   ->  {"step": 1, "of": 20} ... {"timing": {...}}
    memory                                 ->  {"peak_rss_bytes": ...}

Only what a level needs is imported, so that its memory is its own: a bundle's process has no PyTorch in it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from ldmc.errors import StopSignal
from ldmc.runtime.stopping import end_now, stoppable


class Subject(Protocol):
    """What can draw."""

    remarks: list[str]

    def draw(
        self, seed: int, steps: int, batch: int, on_step: Callable[[int, int], None]
    ) -> tuple[Any, dict[str, float]]:
        """Pictures uint8 [N, H, W, 3] or [H, W, 3], and the seconds as `Pipeline.generate_timed` gives them."""
        ...


@dataclass(frozen=True)
class Options:
    """What to open.

    bundle: its folder, or None for a level of the reference project. source: the manifest's section of that name, and
    `place`: where the model is, if not where it says. batch: pictures of a drawing. device: PyTorch's, for levels
    that run in it. folder: for files of the level's own. trust: of the bundle; see `ldmc.runtime.load`.
    """

    level: str
    bundle: str | None
    source: dict[str, Any]
    batch: int
    threads: int | None
    device: str
    folder: str
    trust: bool = False


class Worker:
    """Answers questions about one subject."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._subject: Subject | None = None
        self._kinds: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "prepare": self._prepare, "open": self._open, "draw": self._draw, "memory": self._memory,
        }

    def answer(self, question: dict[str, Any]) -> None:
        """Answer one question; an error of the subject is an answer as well."""
        try:
            self._say(self._kinds[question["question"]](question["arguments"]))
        except Exception as error:
            self._say({"failed": _sentence(error)})

    def serve(self, questions: TextIO) -> None:
        """Answer until there are no more questions."""
        for line in questions:
            self.answer(json.loads(line))

    def _prepare(self, arguments: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        options = Options(**arguments)
        if options.level == "onnxruntime":
            from ldmc.compiler.levels.onnxruntime import export

            export(options.source, Path(options.folder))
        else:
            open_subject(options)  # the runtime keeps its optimised graph beside the model
        return {"prepare_seconds": time.monotonic() - start}

    def _open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        from ldmc.runtime import memory

        start = time.monotonic()
        self._subject = open_subject(Options(**arguments))
        load_seconds = time.monotonic() - start
        return {"load_seconds": load_seconds, "private_bytes_after_load": memory.private_bytes(),
                "remarks": self._subject.remarks}

    def _draw(self, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self._subject is not None
        batch, picture = arguments["batch"], arguments["picture"]
        start = time.monotonic()
        images, timing = self._subject.draw(arguments["seed"], arguments["steps"], batch, self._stepped)
        end = time.monotonic()
        if picture is not None:
            np.save(picture, images if batch == 1 else images[0])
        return {"timing": {**timing, "start_monotonic_seconds": start, "end_monotonic_seconds": end}}

    def _memory(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        from ldmc.runtime import memory

        return {"peak_rss_bytes": memory.peak_rss_bytes()}

    def _stepped(self, done: int, of: int) -> None:
        self._say({"step": done, "of": of})

    def _say(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def open_subject(options: Options) -> Subject:
    """The subject of a level."""
    level, threads = options.level, options.threads
    if options.bundle is not None:
        from ldmc.compiler.levels.bundle import BundleSubject

        return BundleSubject(options.bundle, threads, options.trust)
    if level == "onnxruntime":
        from ldmc.compiler.levels.onnxruntime import SessionSubject

        return SessionSubject(Path(options.folder), threads)
    from ldmc.compiler.levels.pytorch import TorchSubject

    half, trace = level.endswith("-fp16"), level.startswith("jit")
    return TorchSubject(options.source, half, trace, options.batch, threads, options.device)


def _sentence(error: Exception) -> str:
    """What went wrong in one line; ours say it themselves."""
    message = getattr(error, "message", "") or str(error) or type(error).__name__
    line = next((line.strip() for line in message.splitlines() if line.strip()), type(error).__name__)
    return line if hasattr(error, "message") else f"{type(error).__name__}: {line}"


def main() -> None:
    """Answer on what was stdout; what libraries print there goes to the log instead."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        worker = Worker(answers)
        _, stopped = stoppable(lambda: worker.serve(sys.stdin), StopSignal, lambda: None, (signal.SIGTERM,), 0.3)
    if stopped:
        end_now()


if __name__ == "__main__":
    main()
