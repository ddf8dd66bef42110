"""`ldmc build`: compile a model into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ldmc.commands.common import (
    beside,
    console,
    emit,
    json_option,
    prepare_hub,
    print_identity,
    require,
    write_report_beside,
)
from ldmc.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.option("--target", required=True, help="Target name (see `ldmc targets`) or a .toml file.")
@click.option("--passes", metavar="SPEC", help="Passes, e.g. fp16,onnx,fold. Default: the target's.")
@click.option(
    "--model",
    metavar="MODEL",
    help="Preset name, local folder in diffusers layout, or hub id owner/name.",
)
@click.option(
    "--random-weights",
    type=int,
    is_flag=False,
    flag_value=0,
    metavar="[SEED]",
    help="Deterministic placeholder weights: sizes and speeds are real, pictures are noise.",
)
@click.option("--require-weights", is_flag=True, help="Fail where real weights cannot be had.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Bundle folder. Default: NAME.TARGET.ldmc here."
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--keep-intermediates", is_flag=True, help="Keep the ONNX graph and weights of every stage.")
@click.option("--strict", is_flag=True, help="Insert no pass that was not asked for; refuse what does not fit.")
@click.option(
    "--allow-over-budget", is_flag=True, help="Go on where the target's memory is predicted to be too small."
)
@click.option("--verify", is_flag=True, help="Then run it against PyTorch fp32 and fail where it departs.")
@click.option("--no-report", is_flag=True, help="Write no NAME.TARGET.report.html beside the bundle.")
@json_option
def build(
    target: str,
    passes: str | None,
    model: str | None,
    random_weights: int | None,
    require_weights: bool,
    output: Path | None,
    force: bool,
    keep_intermediates: bool,
    strict: bool,
    allow_over_budget: bool,
    verify: bool,
    no_report: bool,
    as_json: bool,
) -> None:
    """Compile a model into a bundle.

    \b
    Example:
      ldmc build --target cpu --passes fp16,onnx,fold --random-weights
      ldmc build --target cpu --model ./my-ldm -o faces.ldmc --verify
    """
    from ldmc.compiler.driver import build as run_build
    from ldmc.compiler.frontend import ModelRequest
    from ldmc.compiler.request import BuildRequest
    from ldmc.terminal import RichProgress, print_build, print_random_weights, print_verify

    prepare_hub()
    if require_weights and random_weights is not None:
        raise UsageError("--require-weights and --random-weights exclude each other", fix="give one of them")
    terminal = console(as_json)
    request = BuildRequest(
        target,
        ModelRequest(model, random_weights, require_weights),
        passes,
        output,
        force,
        keep_intermediates,
        strict,
        allow_over_budget,
    )
    reports: list[Any] = []

    def approve(folder: Path) -> None:
        from ldmc.compiler.verify import verify_bundle

        reports.append(verify_bundle(folder, model=model, cache=False, trust=True))
        print_verify(reports[-1], terminal)
        require(reports[-1], reports[-1].to_json())

    result = run_build(request, RichProgress(terminal), approve if verify else None)
    answer = result.to_json()
    if reports:
        answer["verify"] = reports[-1].to_json()
    print_build(result, terminal)
    print_identity(result.manifest_sha256, terminal)
    answer["report"] = None if no_report else _report(result.bundle, answer, reports, terminal)
    if not result.weights["asked"]:
        print_random_weights(terminal)
    emit(answer, as_json)


def _report(bundle: Path, answer: dict[str, Any], reports: list[Any], terminal: Console) -> str | None:
    """Write the report page beside the bundle; where it is."""
    checks = [report.to_json() for report in reports]
    return write_report_beside([bundle, answer, *checks], beside(bundle, "report.html"), terminal)
