"""`ldmc doctor`: what this machine has, and what it can do for each target."""

from __future__ import annotations

import click

from ldmc.commands.common import console, emit, json_option


@click.command()
@click.option("--target", metavar="NAME", help="Only this target (see `ldmc targets`), or a .toml file.")
@json_option
def doctor(target: str | None, as_json: bool) -> None:
    """Say which toolchains this machine has, and what each target can therefore do here.

    A target builds `whole`; or with steps `pending`, which the bundle finishes on the device; or not at all: `nothing`.

    \b
    Example:
      ldmc doctor
      ldmc doctor --target jetson-nano
    """
    from ldmc.compiler.doctor import diagnose
    from ldmc.compiler.machine import this_machine
    from ldmc.targets.reader import load_target, target_names
    from ldmc.terminal.doctor import print_diagnosis

    targets = [load_target(name) for name in ([target] if target is not None else target_names())]
    diagnosis = diagnose(targets, this_machine())
    print_diagnosis(diagnosis, console(as_json))
    emit(diagnosis.to_json(), as_json)
