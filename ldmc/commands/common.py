"""What the commands share: the JSON option, where people read, and how a result is printed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ldmc.errors import VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from ldmc.compiler.fidelity.results import FidelityReport
    from ldmc.compiler.verify import VerifyReport

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
sources_option = click.option(
    "--sources", is_flag=True, help="Run the ONNX graphs that engines are built from, on this CPU."
)
bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


def console(as_json: bool) -> Console:
    """Where people read: stdout, or stderr where stdout is for JSON."""
    from rich.console import Console

    return Console(stderr=as_json, soft_wrap=False)


def emit(answer: Any, as_json: bool) -> None:
    """Print the result, if it is wanted as JSON."""
    if as_json:
        click.echo(json.dumps(answer, indent=1))


def warn(remarks: list[str], to: Console) -> None:
    """What the runtime could not do, or the user should know of a bundle."""
    from rich.markup import escape

    for remark in remarks:
        to.print(f"[yellow]warning:[/] {escape(remark)}")


def require(report: VerifyReport | FidelityReport) -> None:
    """Turn a failed verification into an error that carries its figures."""
    if not report.ok:
        raise VerificationError(report.complaint(), fix=report.fix(), result=report.to_json())


def prepare_hub() -> None:
    """Keep huggingface_hub's own bars out of ours."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
