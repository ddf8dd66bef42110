"""Measures levels side by side: each in a process of its own, drawing in turn from the same noise.

    prepare each  ->  open each  ->  idle  ->  warm up each  ->  A B C A B C ...  ->  memory of each  ->  result

What drifts, such as the clock of a warm machine, hits all alike. A level that cannot be opened or takes too long says
so in its row; the others go on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmc.compiler.levels.level import Level
from ldmc.compiler.levels.process import LevelFailed, LevelProcess, LevelStopped
from ldmc.compiler.levels.result import compare_rows, describe_model, gpu_name, packages, row
from ldmc.errors import LdmcError
from ldmc.runtime.manifest import Manifest
from ldmc.runtime.meters import Recorder, choose
from ldmc.runtime.result import document

if TYPE_CHECKING:
    from ldmc.compiler.driver import Progress

IDLE_SECONDS = 3.0


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    levels: at least one; the first that can be measured is what the others are compared with.
    manifest: of a bundle of the model that all of them run. model: where it is, if not where that says.
    steps, runs, warmup, batch, seed: of every level. threads: None for the engine's choice.
    device: PyTorch's, for levels that run in it. limit_seconds: a level whose drawing takes longer is stopped.
    power: a target's `power`, or "" for whatever meter is here. command: as typed, for the result.
    """

    levels: tuple[Level, ...]
    manifest: Manifest
    model: str | None = None
    steps: int = 20
    runs: int = 5
    warmup: int = 1
    batch: int = 1
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    limit_seconds: float = 600.0
    power: str = ""
    command: str = ""

    def settings(self) -> dict[str, Any]:
        """What every level was given, for the result."""
        names = ("steps", "runs", "warmup", "batch", "threads", "seed")
        return {**{name: getattr(self, name) for name in names}, "torch_device": self.device}


@dataclass
class Contestant:
    """A level while it is measured. process: None where it is out; `status` and `why` say so then."""

    level: Level
    process: LevelProcess | None = None
    status: str = "measured"
    why: str = ""
    opened: dict[str, Any] = field(default_factory=dict)
    prepare_seconds: float | None = None
    timings: list[dict[str, float]] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    picture: Path | None = None

    def ask(self, question: str, arguments: dict[str, Any], **how: Any) -> dict[str, Any] | None:
        """An answer; None where there is none, and then the level is out."""
        if self.process is None:
            return None
        try:
            return self.process.ask(question, arguments, **how)
        except LevelStopped as stopped:
            self.drop("stopped", str(stopped))
        except LevelFailed as failed:
            self.drop("failed", str(failed))
        return None

    def drop(self, status: str, why: str) -> None:
        """It is out."""
        self.status, self.why = status, why
        if self.process is not None:
            self.process.kill()
            self.process = None


def bench(request: BenchRequest, progress: Progress) -> dict[str, Any]:
    """Measure every level of `request`. Returns the result, as README's "JSON" section has it.

    Raises:
        LdmcError: no level could be measured.
    """
    meter, why_no_meter = choose(request.power)
    with tempfile.TemporaryDirectory(prefix="ldmc-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        recorder = stack.enter_context(Recorder(meter)) if meter is not None else None
        idle_watts = _idle(recorder, progress)
        contestants = [Contestant(level) for level in request.levels]
        for contestant in contestants:
            _open(contestant, request, folder, stack, progress)
        for contestant in contestants:
            _warm_up(contestant, request, folder, progress)
        _take_turns(contestants, request, folder, progress)
        for contestant in contestants:
            contestant.memory = contestant.ask("memory", {}) or {}
        rows = [row(each, request.warmup, recorder, idle_watts, why_no_meter or "") for each in contestants]
        compare_rows(rows, {c.level.name: c.picture for c in contestants if c.picture is not None})
    if all(contestant.status != "measured" for contestant in contestants):
        told = "; ".join(f"{contestant.level.name}: {contestant.why}" for contestant in contestants)
        raise LdmcError(f"no level could be measured: {told}", fix="see `ldmc doctor` for what this machine can run")
    found: dict[str, Any] = document(
        command=request.command,
        settings=request.settings(),
        model=describe_model(request),
        power={"meter": meter.title if meter else None, "absent": why_no_meter, "idle_watts": idle_watts},
        levels=rows,
        packages=packages(),
        gpu=gpu_name(request.device),
    )
    return found


def _idle(recorder: Recorder | None, progress: Progress) -> float | None:
    """Mean power in W while nothing is asked of the machine; None without a meter, or where it gives none."""
    if recorder is None:
        return None
    with progress.stage(f"idle power ({recorder.meter.title})", None):
        start = time.monotonic()
        time.sleep(max(IDLE_SECONDS, 5 * recorder.interval_seconds))
        energy = recorder.energy(start, time.monotonic())
    return energy.mean_watts if energy is not None else None


def _open(
    contestant: Contestant, request: BenchRequest, folder: Path, stack: ExitStack, progress: Progress
) -> None:
    """Prepare it, then open it in the process it is measured in."""
    level = contestant.level
    own = folder / level.name
    own.mkdir()
    options = {
        "level": level.name,
        "bundle": str(level.bundle.resolve()) if level.bundle is not None else None,
        "source": {**request.manifest.data["source"], "place": request.model},
        "batch": request.batch,
        "threads": request.threads,
        "device": request.device,
        "folder": str(own / "graphs"),
    }
    _prepare(contestant, request, options, own, progress)
    if contestant.status != "measured":
        return
    contestant.process = stack.enter_context(LevelProcess(own / "log"))
    with progress.stage(f"{level.name}: open", None):
        contestant.opened = contestant.ask("open", options, limit_seconds=request.limit_seconds) or {}
    for remark in contestant.opened.get("remarks", []):
        progress.note(f"{level.name}: {remark}")


def _prepare(
    contestant: Contestant, request: BenchRequest, options: dict[str, Any], own: Path, progress: Progress
) -> None:
    """What is done once per machine and kept. In a process that then ends: it is not part of what is measured."""
    if contestant.level.bundle is None and contestant.level.name != "onnxruntime":
        return
    with progress.stage(f"{contestant.level.name}: prepare", None), LevelProcess(own / "log") as process:
        contestant.process = process
        answer = contestant.ask("prepare", options, limit_seconds=request.limit_seconds)
        contestant.process = None
    contestant.prepare_seconds = answer["prepare_seconds"] if answer is not None else None


def _warm_up(contestant: Contestant, request: BenchRequest, folder: Path, progress: Progress) -> None:
    if contestant.process is None or request.warmup == 0:
        return
    total = request.warmup * request.steps
    with progress.stage(f"{contestant.level.name}: warm up", total) as advance:
        for _ in range(request.warmup):
            _draw(contestant, request, folder, advance)


def _take_turns(
    contestants: list[Contestant], request: BenchRequest, folder: Path, progress: Progress
) -> None:
    running = [contestant for contestant in contestants if contestant.process is not None]
    if not running:
        return
    names = ", ".join(contestant.level.name for contestant in running)
    total = request.runs * request.steps * len(running)
    with progress.stage(f"{request.runs} runs in turn: {names}", total) as advance:
        for _ in range(request.runs):
            for contestant in running:
                _draw(contestant, request, folder, advance)


def _draw(contestant: Contestant, request: BenchRequest, folder: Path, advance: Callable[[int], None]) -> None:
    """One drawing; the first one's picture is kept."""
    picture = folder / f"{contestant.level.name}.npy"
    wanted = str(picture) if contestant.picture is None else None
    arguments = {"seed": request.seed, "steps": request.steps, "batch": request.batch, "picture": wanted}
    answer = contestant.ask(
        "draw", arguments, limit_seconds=request.limit_seconds, on_step=lambda _done, _of: advance(1)
    )
    if answer is not None:
        contestant.timings.append(answer["timing"])
        contestant.picture = contestant.picture or picture
