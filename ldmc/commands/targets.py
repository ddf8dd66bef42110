"""`ldmc targets`: list the targets, or show one."""

from __future__ import annotations

import click

from ldmc.commands.common import console, emit, json_option


@click.command()
@click.argument("name", required=False)
@json_option
def targets(name: str | None, as_json: bool) -> None:
    """List the targets, or show one.

    NAME is a target, or a .toml file of one's own: every key of another target that it `extends`, and what it says
    instead.

    \b
    Example:
      ldmc targets jetson-nano
    """
    from ldmc.compiler.pipeline import pipelines_of
    from ldmc.targets.reader import load_target, target_names
    from ldmc.terminal.targets import describe_target, print_target, print_targets

    if name is not None:
        found = [load_target(name)]
        pipelines_of(None, found[0])  # a file may say a pass that there is not
        print_target(found[0], console(as_json))
    else:
        found = [load_target(known) for known in target_names()]
        print_targets(found, console(as_json))
    emit({"targets": [describe_target(target) for target in found]}, as_json)
