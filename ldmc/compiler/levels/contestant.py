"""One level of a bench while it is measured: opened, warmed up, drawing when it is its turn, or out with a reason."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmc.compiler.frontend import ModelRequest, open_model
from ldmc.compiler.levels.level import Level, gpu_of
from ldmc.compiler.levels.process import LevelFailed, LevelProcess, LevelStopped
from ldmc.compiler.levels.worker import Options
from ldmc.runtime import memory
from ldmc.runtime.backends import check_bundle
from ldmc.runtime.checks.opening import Vouched
from ldmc.runtime.loader import check_threads
from ldmc.runtime.manifest import Manifest
from ldmc.runtime.meters.watch import GpuMemory, Watch
from ldmc.runtime.schedulers import sampler_of

if TYPE_CHECKING:
    from ldmc.compiler.progress import Progress

WATCHED = ("peak_pss_bytes", "peak_gpu_bytes")


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    levels: at least one; the first that can be measured is what the others are compared with.
    manifest: of a bundle of the model that all of them run. model: where it is, if not where that says.
    steps, runs, warmup, batch, seed: of every level. threads: None for the engine's choice.
    device: PyTorch's, for levels that run in it. limit_seconds: a level whose drawing takes longer is stopped.
    trust: native code and scripts of the bundles may run though they were not made here.
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
    trust: bool = False

    def check(self) -> None:
        """Refuse, before anything runs, what no level could do.

        Raises:
            UsageError: there is no such model or device. InputProblem: so many steps or threads cannot be had.
            ModelError: the model is broken. UntrustedBundle: a bundle would run code that nobody vouches for.
            BundleProblem: a bundle cannot run on this machine.
        """
        for level in self.levels:
            if level.manifest is not None:
                Vouched(level.manifest, self.trust).require_all()
                check_bundle(level.manifest)
        check_threads(self.threads)
        sampler_of(self.manifest.scheduler).check(self.steps)
        gpu_of(self.device)
        if self.model is not None:
            seed = self.manifest.data["source"]["weights"]["seed"]
            open_model(ModelRequest(self.model, seed), lambda _warning: None)

    def settings(self) -> dict[str, Any]:
        """What every level was given, for the result."""
        names = ("steps", "runs", "warmup", "batch", "threads", "seed")
        return {**{name: getattr(self, name) for name in names}, "torch_device": self.device}


class Contestant:
    """A level that takes part.

    folder: for its files, and its picture.
    Attributes: status (`measured`, `stopped` or `failed`) and why; opened: the answer to `open`; prepare_seconds;
    timings: of each drawing; memory: bytes by column, and unwatched: why a column has none.
    """

    def __init__(self, level: Level, request: BenchRequest, folder: Path) -> None:
        self.level = level
        self.status = "measured"
        self.why = ""
        self.opened: dict[str, Any] = {}
        self.prepare_seconds: float | None = None
        self.timings: list[dict[str, float]] = []
        self.memory: dict[str, int | None] = {}
        self.unwatched: dict[str, str] = {}
        self.picture = folder / f"{level.name}.npy"
        self._request = request
        self._folder = folder / level.name
        self._process: LevelProcess | None = None

    @property
    def runs(self) -> int:
        """How many measured drawings it has."""
        return max(0, len(self.timings) - self._request.warmup)

    @property
    def is_running(self) -> bool:
        """Whether it can be asked to draw."""
        return self._process is not None

    def open(self, stack: ExitStack, progress: Progress) -> None:
        """Prepare it, then open it in the process that it is measured in, which `stack` ends."""
        self._folder.mkdir()
        level, request = self.level, self._request
        options = Options(
            level=level.name,
            bundle=str(level.bundle.resolve()) if level.bundle is not None else None,
            source={**request.manifest.data["source"], "place": request.model},
            batch=request.batch,
            threads=request.threads,
            device=request.device,
            folder=str(self._folder / "graphs"),
            trust=request.trust,
        )
        if level.bundle is not None or level.name == "onnxruntime":
            self._prepare(options, progress)
        if self.status != "measured":
            return
        self._process = stack.enter_context(LevelProcess(self._folder / "log"))
        with progress.stage(f"{level.name}: open", None):
            self.opened = self._ask("open", asdict(options)) or {}
        for remark in self.opened.get("remarks", []):
            progress.note(f"{level.name}: {remark}")

    def warm_up(self, gpu: GpuMemory | None, progress: Progress) -> None:
        """Drawings that are not measured. Memory that has to be asked for again and again is watched here, not later,
        where that would take time from what is measured."""
        if self._process is None or self._request.warmup == 0:
            self.unwatched = dict.fromkeys(WATCHED, "it is watched while warming up, and --warmup is 0")
            return
        total = self._request.warmup * self._request.steps
        watch = Watch(self._process.pid, gpu)
        with watch, progress.stage(f"{self.level.name}: warm up", total) as advance:
            for _ in range(self._request.warmup):
                self.draw(advance)
        self.memory = {name: getattr(watch, name) for name in WATCHED}
        self.unwatched = {name: watch.why[name] for name in WATCHED if name in watch.why}

    def draw(self, advance: Callable[[int], None]) -> None:
        """One drawing; the first one's picture is kept."""
        request = self._request
        picture = None if self.timings else str(self.picture)
        arguments = {"seed": request.seed, "steps": request.steps, "batch": request.batch, "picture": picture}
        answer = self._ask("draw", arguments, lambda _done, _of: advance(1))
        if answer is not None:
            self.timings.append(answer["timing"])

    def ask_memory(self) -> None:
        """What its process needed over all."""
        self.memory.update(self._ask("memory", {}) or {})

    def leave(self, why: str) -> None:
        """End it in the midst of a drawing; without a measured one before, it is out because of `why`."""
        if self._process is None:
            return
        if self.runs:
            self.memory["peak_rss_bytes"] = memory.peak_rss_bytes_of(self._process.pid)
            self._process.kill()
            self._process = None
        else:
            self._drop("stopped", why)

    def _prepare(self, options: Options, progress: Progress) -> None:
        """What is done once per machine and kept. In a process that then ends: it is not part of what is measured."""
        with progress.stage(f"{self.level.name}: prepare", None), LevelProcess(self._folder / "log") as process:
            self._process = process
            answer = self._ask("prepare", asdict(options))
            self._process = None
        self.prepare_seconds = answer["prepare_seconds"] if answer is not None else None

    def _ask(
        self, question: str, arguments: dict[str, Any], on_step: Callable[[int, int], None] | None = None
    ) -> dict[str, Any] | None:
        """An answer; None where there is none, and then the level is out."""
        if self._process is None:
            return None
        try:
            return self._process.ask(question, arguments, self._request.limit_seconds, on_step)
        except LevelStopped as stopped:
            self._drop("stopped", str(stopped))
        except LevelFailed as failed:
            self._drop("failed", str(failed))
        return None

    def _drop(self, status: str, why: str) -> None:
        self.status, self.why = status, why
        if self._process is not None:
            self._process.kill()
            self._process = None
