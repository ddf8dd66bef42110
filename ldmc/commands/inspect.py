"""`ldmc inspect`: show what a bundle is."""

from __future__ import annotations

from pathlib import Path

import click

from ldmc.commands.common import bundle_argument, console, emit, json_option


@click.command()
@bundle_argument
@json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what a bundle is: model, target, components, stages, files.

    \b
    Example:
      ldmc inspect digits-ldm.cpu.ldmc
    """
    from ldmc.artifacts.manifest import read_whole_manifest
    from ldmc.runtime.manifest import check_files
    from ldmc.terminal import print_manifest

    manifest = read_whole_manifest(bundle)
    check_files(manifest.root, manifest)
    print_manifest(manifest.data, console(as_json))
    emit(manifest.data, as_json)
