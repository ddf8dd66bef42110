"""`ldmc compare`: results of several devices side by side."""

from __future__ import annotations

from pathlib import Path

import click

from ldmc.commands.common import check_writable, console, emit, json_option, write_text


@click.command()
@click.argument("results", metavar="RESULT...", nargs=-1, required=True)
@click.option("--level", "levels", multiple=True, help="Show only this level; `baseline` is each result's first.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Also a table in markdown.")
@json_option
def compare(results: tuple[str, ...], levels: tuple[str, ...], markdown_file: Path | None, as_json: bool) -> None:
    """Put results of `ldmc bench` together, relative to the baseline of the first.

    RESULT is a file, or what the reference project published: paper:rtx-3070, paper:jetson-nano, paper:android.

    \b
    Example:
      ldmc compare paper:rtx-3070 paper:jetson-nano digits-ldm.cpu.bench.json --level baseline
    """
    from ldmc.compiler.levels.compare import compare
    from ldmc.compiler.levels.read import read_result
    from ldmc.terminal.bench import comparison_markdown, print_comparison

    if markdown_file is not None:
        check_writable(markdown_file)
    comparison = compare({name: read_result(name) for name in results}, levels)
    terminal = console(as_json)
    print_comparison(comparison, terminal)
    if markdown_file is not None:
        write_text(markdown_file, comparison_markdown(comparison))
    emit(comparison.to_json(), as_json)
