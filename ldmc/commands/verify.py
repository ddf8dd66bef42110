"""`ldmc verify`: check a bundle's files, then its outputs against PyTorch."""

from __future__ import annotations

from pathlib import Path

import click

from ldmc.commands.common import bundle_argument, console, emit, json_option, prepare_hub, require


@click.command()
@bundle_argument
@click.option(
    "--model", metavar="MODEL", help="Where the original weights are, if not where the build found them."
)
@click.option("--steps", default=20, show_default=True, help="Steps of the compared picture.")
@click.option("--hashes-only", is_flag=True, help="Check files only; run nothing.")
@json_option
def verify(bundle: Path, model: str | None, steps: int, hashes_only: bool, as_json: bool) -> None:
    """Check a bundle's files, then its outputs against PyTorch eager fp32 with the same weights.

    \b
    Example:
      ldmc verify digits-ldm.cpu.ldmc
    """
    from ldmc.terminal import RichProgress, print_verify

    prepare_hub()
    terminal = console(as_json)
    if hashes_only:
        from ldmc.runtime.manifest import check_files, read_manifest

        manifest = read_manifest(str(bundle))
        check_files(manifest.root, manifest, hashes=True)
        terminal.print(
            f"{len(manifest.files)} files have the size and SHA-256 of the manifest", highlight=False
        )
        emit({"ok": True, "files": len(manifest.files)}, as_json)
        return
    from ldmc.compiler.verify import verify_bundle

    with RichProgress(terminal).stage("verify against PyTorch", None):
        report = verify_bundle(bundle, model=model, steps=steps)
    print_verify(report, terminal)
    require(report)
    emit(report.to_json(), as_json)
