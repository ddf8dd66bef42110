"""`ldmc plan`: predict the memory that building and running take."""

from __future__ import annotations

from pathlib import Path

import click

from ldmc.commands.common import check_writable, console, emit, json_option, prepare_hub
from ldmc.errors import UsageError

_SUFFIXES = (".svg", ".png")


@click.command()
@click.option("--target", required=True, help="Target name (see `ldmc targets`) or a .toml file.")
@click.option("--passes", metavar="SPEC", help="Passes, e.g. fp16,onnx,trt. Default: the target's.")
@click.option(
    "--model", metavar="MODEL", help="Preset name, local folder in diffusers layout, or hub id owner/name."
)
@click.option(
    "--random-weights",
    type=int,
    is_flag=False,
    flag_value=0,
    metavar="[SEED]",
    help="As in `build`; a plan reads no weights and is the same with and without.",
)
@click.option("--strict", is_flag=True, help="Plan the passes as typed, with none put between.")
@click.option(
    "--chart", type=click.Path(path_type=Path), metavar="FILE", help="Draw memory over the run: .svg or .png."
)
@json_option
def plan(
    target: str,
    passes: str | None,
    model: str | None,
    random_weights: int | None,
    strict: bool,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Predict the memory that building and running take, without reading a weight.

    \b
    Example:
      ldmc plan --target jetson-nano --passes fp16,onnx,trt
      ldmc plan --target android --chart memory.svg
    """
    from ldmc.targets.reader import load_target

    _check_chart(chart)
    found = load_target(target)
    from ldmc.compiler.budget.report import plan_request
    from ldmc.compiler.frontend import ModelRequest
    from ldmc.terminal import RichProgress
    from ldmc.terminal.plan import print_plan

    prepare_hub()
    terminal = console(as_json)
    with RichProgress(terminal).stage("lower without weights", None):
        report = plan_request(ModelRequest(model, random_weights), passes, found, strict=strict)
    if chart is not None:
        from ldmc.compiler.budget.chart import save_chart

        save_chart(report.plan, chart)
    print_plan(report, terminal)
    emit(report.to_json(), as_json)


def _check_chart(chart: Path | None) -> None:
    """Refuse a file that cannot be drawn before anything is lowered."""
    if chart is None:
        return
    if chart.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"--chart {chart}: a chart is drawn as .svg or .png", fix=f"name it {chart.stem}.svg"
        )
    check_writable(chart)
