"""`ldmc passes`: list the passes."""

from __future__ import annotations

import click

from ldmc.commands.common import console, emit, json_option


@click.command()
@json_option
def passes(as_json: bool) -> None:
    """List the passes: what each takes and gives, and its options.

    \b
    Example:
      ldmc passes
    """
    from ldmc.terminal import describe_passes, print_passes

    described = describe_passes()
    print_passes(described, console(as_json))
    emit({"passes": described}, as_json)
