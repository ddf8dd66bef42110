"""Measures levels side by side: each in a process of its own, drawing in turn from the same noise.

    prepare each  ->  open each  ->  idle  ->  warm up each  ->  A B C A B C ...  ->  memory of each  ->  result

What drifts, such as the clock of a warm machine, hits all alike. A level that cannot be opened or takes too long says
so in its row; the others go on. Where somebody interrupts the turns, the drawings before are the result.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmc.compiler.levels.contestant import BenchRequest, Contestant
from ldmc.compiler.levels.level import gpu_of
from ldmc.compiler.levels.result import compare_rows, packages, row
from ldmc.errors import LdmcError, StopSignal
from ldmc.runtime import stopping
from ldmc.runtime.leftovers import temporary_folder
from ldmc.runtime.meters import MeterProblem, Recorder, choose
from ldmc.runtime.meters.watch import GpuMemory
from ldmc.runtime.result import describe_model, document

if TYPE_CHECKING:
    from ldmc.compiler.progress import Progress

IDLE_SECONDS = 3.0


def bench(request: BenchRequest, progress: Progress) -> dict[str, Any]:
    """Measure every level of `request`. Returns the result, as README's "JSON" section has it.

    Raises:
        LdmcError: no level could be measured. StopSignal, KeyboardInterrupt: none had been measured by then.
    """
    meter, why_no_meter = choose(request.power)
    with temporary_folder("ldmc-bench-") as name, ExitStack() as stack:
        gpu = _gpu_memory(request, stack)
        recorder = stack.enter_context(Recorder(meter)) if meter is not None else None
        idle_watts, why_no_idle = _idle(recorder, progress)
        unknown = {"power_watts": why_no_meter or "", "power_net_watts": why_no_idle}
        contestants = [Contestant(level, request, Path(name)) for level in request.levels]
        for contestant in contestants:
            contestant.open(stack, progress)
        for contestant in contestants:
            contestant.warm_up(gpu, progress)
        interrupted = _take_turns(contestants, request, progress)
        for contestant in contestants:
            contestant.ask_memory()
        rows = [row(each, request.warmup, recorder, idle_watts, unknown) for each in contestants]
        compare_rows(rows, {c.level.name: c.picture for c in contestants if c.timings})
    if all(contestant.status != "measured" for contestant in contestants):
        told = "; ".join(f"{contestant.level.name}: {contestant.why}" for contestant in contestants)
        if all(contestant.status == "stopped" for contestant in contestants):
            raise LdmcError(f"no level could be measured: {told}", fix="raise --limit, or take fewer --steps")
        raise LdmcError(f"no level could be measured: {told}", fix="see `ldmc doctor` for what this machine can run")
    found: dict[str, Any] = document(
        command=request.command,
        settings=request.settings(),
        model=describe_model(request.manifest),
        power={"meter": meter.title if meter else None, "absent": why_no_meter, "idle_watts": idle_watts},
        levels=rows,
        packages=packages(),
        gpu=gpu_of(request.device),
        interrupted=interrupted,
    )
    return found


def _idle(recorder: Recorder | None, progress: Progress) -> tuple[float | None, str]:
    """Mean power in W while nothing is asked of the machine, or None and why."""
    if recorder is None:
        return None, ""
    with progress.stage(f"idle power ({recorder.meter.title})", None):
        start = time.monotonic()
        time.sleep(max(IDLE_SECONDS, 5 * recorder.interval_seconds))
        energy = recorder.energy(start, time.monotonic())
    return (None, recorder.why) if energy is None else (energy.mean_watts, "")


def _gpu_memory(request: BenchRequest, stack: ExitStack) -> GpuMemory | None:
    """What knows how much of a graphics card each process has; None where no level uses one, or none can be asked."""
    if request.power != "nvml":
        return None
    try:
        gpu = GpuMemory()
    except MeterProblem:
        return None
    stack.callback(gpu.close)
    return gpu


def _take_turns(contestants: list[Contestant], request: BenchRequest, progress: Progress) -> str:
    """Returns how far it came where it was interrupted; "" where it was not."""
    running = [contestant for contestant in contestants if contestant.is_running]
    if not running:
        return ""
    names = ", ".join(contestant.level.name for contestant in running)
    total = request.runs * request.steps * len(running)
    try:
        with (
            stopping.asked_politely(),
            progress.stage(f"{request.runs} runs in turn: {names}", total) as advance,
        ):
            for _ in range(request.runs):
                for contestant in running:
                    contestant.draw(advance)
    except (StopSignal, KeyboardInterrupt):
        runs = [contestant.runs for contestant in running]
        if not any(runs):
            raise
        for contestant in running:
            contestant.leave("interrupted before its first measured drawing")
        return f"after {min(runs)} of {request.runs} runs"
    return ""
