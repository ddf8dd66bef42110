"""`ldmc report`: show bundles and results in one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from ldmc.commands.common import console, emit, json_option


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="BUNDLE|RESULT.json...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    type=click.Path(path_type=Path),
    help="HTML file to write.",
)
@json_option
def report(inputs: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Show bundles and results in one HTML file: charts, tables, pictures. It loads nothing from anywhere.

    A result is the JSON of `bench`, `verify` or `build`.

    \b
    Example:
      ldmc report digits-ldm.cpu.ldmc bench.json verify.json -o digits.html
    """
    from ldmc.report import write_report

    size_bytes = write_report(inputs, output)
    console(as_json).print(f"{output}: {size_bytes / 1024:.0f} KiB", highlight=False, markup=False)
    emit({"report": str(output), "bytes": size_bytes}, as_json)
