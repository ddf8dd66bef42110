"""`ldmc bench`: measure bundles beside PyTorch, in turn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from ldmc.commands.common import (
    beside,
    check_writable,
    console,
    emit,
    json_option,
    prepare_hub,
    trust_option,
    typed,
    write_report_beside,
    write_text,
)
from ldmc.errors import Interrupted, LdmcError, UsageError


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    default="eager",
    show_default=True,
    metavar="LEVELS",
    help="eager, eager-fp16, jit, jit-fp16, onnxruntime: which of them to measure too, the first as the baseline; "
    "or all, or none.",
)
@click.option("--model", metavar="MODEL", help="Where the original weights are, if not where the build found them.")
@click.option("--steps", default=20, show_default=True)
@click.option("--runs", default=5, show_default=True, help="Measured drawings of each level.")
@click.option("--warmup", default=1, show_default=True, help="Drawings before them.")
@click.option("--batch", default=1, show_default=True, help="Pictures of a drawing.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=int, help="Threads of every level. Default: the engine's own choice.")
@click.option(
    "--device", help="PyTorch's, for its levels: cpu, cuda, cuda:1. Default: cuda where a bundle is for this GPU."
)
@click.option(
    "--limit",
    default=600.0,
    show_default=True,
    help="Seconds: a level that takes longer to prepare, to open or for one drawing is stopped.",
)
@trust_option
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON file. Default: beside the first bundle.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Also a table in the paper's columns.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Also a table in markdown.")
@click.option("--no-report", is_flag=True, help="Write no HTML report beside the result.")
@json_option
def bench(
    bundles: tuple[Path, ...],
    baseline: str,
    model: str | None,
    steps: int,
    runs: int,
    warmup: int,
    batch: int,
    seed: int,
    threads: int | None,
    device: str | None,
    limit: float,
    trust: bool,
    output: Path | None,
    csv_file: Path | None,
    markdown_file: Path | None,
    no_report: bool,
    as_json: bool,
) -> None:
    """Measure bundles, and PyTorch beside them: each in a process of its own, drawing in turn from the same noise.

    \b
    Example:
      ldmc bench digits-ldm.cpu.ldmc --baseline eager,jit --runs 10
    """
    from ldmc.compiler.levels.bench import bench
    from ldmc.compiler.levels.columns import markdown, paper_csv
    from ldmc.compiler.levels.contestant import BenchRequest
    from ldmc.compiler.levels.level import default_device, levels_of, parse_baselines
    from ldmc.terminal import RichProgress
    from ldmc.terminal.bench import print_bench

    prepare_hub()
    _check_numbers(steps, runs, warmup, batch, seed, limit)
    terminal = console(as_json)
    levels = levels_of(bundles, parse_baselines(baseline))
    manifest = next(level.manifest for level in levels if level.manifest is not None)
    output = output or beside(bundles[0], "bench.json")
    page = None if no_report else output.with_suffix(".html")
    _check_outputs([file for file in (output, csv_file, markdown_file, page) if file is not None])
    device = device or default_device(levels)
    power = "nvml" if device.startswith("cuda") else ""
    request = BenchRequest(
        tuple(levels), manifest, model, steps, runs, warmup, batch, seed, threads, device, limit, power, typed(), trust
    )
    request.check()
    result = bench(request, RichProgress(terminal))
    failure = _failure(result, output)
    print_bench(result, terminal)
    write_text(output, json.dumps(result, indent=1) + "\n")
    terminal.print(f"result: {output}", highlight=False, markup=False, soft_wrap=True)
    if csv_file is not None:
        write_text(csv_file, paper_csv(result))
    if markdown_file is not None:
        write_text(markdown_file, markdown(result))
    if page is not None:
        write_report_beside([result, *bundles], page, terminal)
    if failure is not None:
        raise failure
    emit(result, as_json)


def _check_numbers(steps: int, runs: int, warmup: int, batch: int, seed: int, limit: float) -> None:
    whole = (("steps", steps, 1), ("runs", runs, 1), ("warmup", warmup, 0), ("batch", batch, 1), ("seed", seed, 0))
    for name, value, least in whole:
        if value < least:
            raise UsageError(f"--{name} is {value}, expected an integer from {least}")
    if not limit > 0:
        raise UsageError(f"--limit is {limit:g} s, expected a number over 0")


def _check_outputs(files: list[Path]) -> None:
    """Refuse, before long work, files that cannot be written, or that would replace each other."""
    for file in files:
        check_writable(file)
    places = [os.path.realpath(file) for file in files]
    twice = next((file for file, place in zip(files, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(
            f"{twice} would be written twice: results, tables and the report need a file each",
            fix="name another file; the report is the result's name with .html, and --no-report leaves it out",
        )


def _failure(result: dict[str, Any], output: Path) -> LdmcError | None:
    """What is wrong with a result that is all the same worth keeping: it was interrupted, or a bundle cannot be run."""
    if result["interrupted"]:
        message = f"interrupted {result['interrupted']}; what was measured before is kept in {output}"
        return Interrupted(message, result=result)
    bad = [level for level in result["levels"] if level["kind"] == "bundle" and level["status"] == "failed"]
    if bad:
        said = "; ".join(f"{level['name']}: {level['why']}" for level in bad)
        return LdmcError(f"a bundle could not be measured: {said}", fix="see `ldmc verify BUNDLE`", result=result)
    return None
