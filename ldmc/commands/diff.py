"""`ldmc diff`: compare two graphs."""

from __future__ import annotations

import sys

import click

from ldmc.commands.common import console, emit, json_option, printable


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True
)
@click.option("--full", is_flag=True, help="List every node that differs.")
@click.option("--exit-code", is_flag=True, help="Exit 1 where the graphs differ.")
@json_option
def diff(a: str, b: str, form: str, full: bool, exit_code: bool, as_json: bool) -> None:
    """Compare two graphs: operators, totals, and nodes that differ.

    A and B are ONNX files, bundles, or BUNDLE:stage (fold, 03-fold, unet:fold).

    \b
    Example:
      ldmc diff ldm.cpu.ldmc:unet:onnx ldm.cpu.ldmc:unet:fold
    """
    from ldmc.compiler import diff_render, references

    comparison = references.compare(a, b)
    if as_json or form == "json":
        emit(diff_render.to_json(comparison), True)
    elif form == "markdown":
        click.echo(printable(diff_render.to_markdown(comparison, full=full)))
    else:
        diff_render.to_table(comparison, console(False), full=full)
    if exit_code and not comparison.equal:
        sys.exit(1)
