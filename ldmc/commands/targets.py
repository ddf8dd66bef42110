"""`ldmc targets`: list the targets, or show one."""

from __future__ import annotations

import click

from ldmc.commands.common import console, emit, json_option


@click.command()
@click.argument("name", required=False)
@json_option
def targets(name: str | None, as_json: bool) -> None:
    """List the targets, or show one.

    \b
    Example:
      ldmc targets cpu
    """
    from ldmc.targets.reader import load_target, target_names
    from ldmc.terminal import print_targets

    found = [load_target(n) for n in ([name] if name else target_names())]
    print_targets(found, console(as_json), whole=name is not None)
    emit({"targets": [target.to_json() for target in found]}, as_json)
