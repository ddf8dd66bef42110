"""What the commands share: the JSON option, where people read, and how a result is printed."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ldmc.errors import LdmcError, UsageError, VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from ldmc.compiler.fidelity.results import FidelityReport
    from ldmc.compiler.verify import VerifyReport

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
sources_option = click.option(
    "--sources", is_flag=True, help="Run the ONNX graphs that engines are built from, on this CPU."
)
trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Let machine code and scripts of the bundle run that were not made here: engines, TorchScript, AOTInductor.",
)
bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


def console(as_json: bool) -> Console:
    """Where people read: stdout, or stderr where stdout is for JSON."""
    from ldmc.terminal.text import Terminal

    return Terminal(stderr=as_json)


def emit(answer: Any, as_json: bool) -> None:
    """Print the result, if it is wanted as JSON."""
    if as_json:
        click.echo(json.dumps(answer, indent=1))


def warn(remarks: list[str], to: Console) -> None:
    """What the runtime could not do, or the user should know of a bundle."""
    from ldmc.terminal.text import escape

    for remark in remarks:
        to.print(f"[yellow]warning:[/] {escape(remark)}")


def print_identity(sha256: str, to: Console) -> None:
    """The one number that stands for a bundle: its manifest holds the SHA-256 of all other files."""
    to.print(f"manifest sha256:{sha256}", highlight=False, soft_wrap=True)


def require(report: VerifyReport | FidelityReport, found: dict[str, Any]) -> None:
    """Turn a failed verification into an error that carries what was `found`."""
    if not report.ok:
        raise VerificationError(report.complaint(), fix=report.fix(), result=found)


def typed() -> str:
    """The command as it was typed, for results, which are published: of an absolute path the name alone."""
    return shlex.join(["ldmc", *map(_unplaced, click.get_current_context().obj)])


def _unplaced(word: str) -> str:
    """`/home/me/x.ldmc` -> `x.ldmc`, `--model=/home/me/x` -> `--model=x`."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{option}{equals}{Path(value).name or value}" if os.path.isabs(value) else word


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        UsageError: it cannot be written there.
    """
    from ldmc.runtime.files import write_whole

    try:
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", fix="name another file") from error


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written later, before long work.

    Raises:
        UsageError: its folder is not there or read-only, or it is a folder itself.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "is a folder" if path.is_dir() else f"cannot be written: {folder} is no folder that can be written to"
        raise UsageError(f"{path} {what}", fix="name another file")


def beside(bundle: Path, suffix: str) -> Path:
    """`faces.cpu.ldmc` -> `faces.cpu.SUFFIX`, in the same folder."""
    bundle = bundle if bundle.name not in ("", "..") else bundle.resolve()
    return bundle.with_name(f"{bundle.name.removesuffix('.ldmc')}.{suffix}")


def write_report_beside(inputs: list[Path | dict[str, Any]], output: Path, to: Console) -> str | None:
    """Show a result in one HTML file. The result stands whether or not that can be written: then a warning, and None.

    inputs: see `ldmc.report.write_report`.
    """
    from ldmc.report import write_report

    try:
        write_report(inputs, output)
    except LdmcError as error:
        warn([error.message], to)
        return None
    to.print(f"report: {output}", highlight=False, markup=False, soft_wrap=True)
    return str(output)


def prepare_hub() -> None:
    """Keep huggingface_hub's own bars out of ours, and what it says of this machine's packages to itself."""
    for switch in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(switch, "1")
