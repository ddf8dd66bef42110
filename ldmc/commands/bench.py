"""`ldmc bench`: time a bundle."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ldmc.commands.common import bundle_argument, console, emit, json_option, warn


@click.command()
@bundle_argument
@click.option("--steps", default=20, show_default=True)
@click.option("--runs", default=5, show_default=True, help="Measured drawings.")
@click.option("--warmup", default=1, show_default=True, help="Drawings before them.")
@click.option("--batch", default=1, show_default=True)
@click.option("--threads", type=int, help="Threads of the engine. Default: one per core.")
@json_option
def bench(
    bundle: Path, steps: int, runs: int, warmup: int, batch: int, threads: int | None, as_json: bool
) -> None:
    """Time a bundle: load, first picture, then percentiles; peak memory.

    \b
    Example:
      ldmc bench ldm-celebahq-256.cpu.ldmc --runs 3
    """
    from ldmc import runtime
    from ldmc.compiler.meter import reset_peak
    from ldmc.runtime import measure
    from ldmc.terminal import RichProgress, print_bench

    terminal = console(as_json)
    start = time.perf_counter()
    with (
        RichProgress(terminal).stage("prepare", None),
        runtime.load(str(bundle), threads=threads) as pipeline,
    ):
        remarks = pipeline.remarks
    prepare_seconds = time.perf_counter() - start
    warn(remarks, terminal)
    # Optimising, once per machine, takes more memory than running; it is not part of what is measured.
    reset_peak()
    with RichProgress(terminal).stage("bench", runs + warmup) as advance:
        result = measure.bench(
            lambda: runtime.load(str(bundle), threads=threads),
            steps=steps,
            runs=runs,
            warmup=warmup,
            batch=batch,
            threads=threads,
            on_run=lambda _done, _of: advance(1),
        )
    result = {"prepare_seconds": prepare_seconds, **result, "warnings": remarks}
    print_bench(result, terminal)
    emit(result, as_json)
