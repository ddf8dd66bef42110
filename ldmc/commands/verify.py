"""`ldmc verify`: check a bundle's files, then its outputs against PyTorch; or find where fidelity is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ldmc.commands.common import (
    bundle_argument,
    console,
    emit,
    json_option,
    prepare_hub,
    print_identity,
    require,
    trust_option,
)
from ldmc.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from ldmc.compiler.fidelity.examine import Examination
    from ldmc.compiler.fidelity.results import FidelityReport
    from ldmc.compiler.verify import VerifyReport


@click.command()
@bundle_argument
@click.option(
    "--model", metavar="MODEL", help="Where the original weights are, if not where the build found them."
)
@click.option(
    "--steps",
    default=20,
    show_default=True,
    type=click.IntRange(min=1),
    help="Steps of the compared picture; with --by-stage and --by-block, of the loop that latents are taken from.",
)
@click.option("--hashes-only", is_flag=True, help="Check files only; load nothing.")
@click.option("--by-stage", is_flag=True, help="How much error every pass of the pipeline added.")
@click.option("--by-block", is_flag=True, help="How much every block of the graph adds; names one that departs.")
@click.option(
    "--component", metavar="NAME", help="With --by-stage or --by-block: unet or decoder.  [default: both]"
)
@click.option(
    "--timesteps",
    type=click.IntRange(min=1),
    help="With --by-stage or --by-block: how many UNet calls of the loop are compared.  [default: 3]",
)
@click.option(
    "--target", metavar="FILE", help="With --by-stage: the bundle's target file, where it is none of ldmc's."
)
@trust_option
@json_option
def verify(
    bundle: Path,
    model: str | None,
    steps: int,
    hashes_only: bool,
    by_stage: bool,
    by_block: bool,
    component: str | None,
    timesteps: int | None,
    target: str | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Check a bundle's files, then its outputs against PyTorch eager fp32 with the same weights.

    \b
    Example:
      ldmc verify digits-ldm.cpu.ldmc
      ldmc verify digits-ldm.cpu.ldmc --by-stage
      ldmc verify digits-ldm.cpu.ldmc --by-block --component unet
    """
    examines = by_stage or by_block
    _check_options(examines, hashes_only, component, timesteps, target if not by_stage else None)
    prepare_hub()
    if hashes_only:
        _check_hashes(bundle, as_json)
    elif examines:
        from ldmc.compiler.fidelity.examine import Examination

        asked = Examination(by_stage, by_block, component, steps, timesteps or 3, model, target, trust)
        _examine(bundle, asked, as_json)
    else:
        _verify(bundle, model, steps, trust, as_json)


def _check_options(
    examines: bool, hashes_only: bool, component: str | None, timesteps: int | None, target: str | None
) -> None:
    """Refuse options that would be without effect."""
    if hashes_only and examines:
        raise UsageError("--hashes-only runs nothing, and --by-stage and --by-block do", fix="leave one out")
    given = {"--component": component is not None, "--timesteps": timesteps is not None}
    for option in (name for name, is_given in given.items() if is_given and not examines):
        raise UsageError(f"{option} goes with --by-stage or --by-block", fix=f"add one, or leave {option} out")
    if target is not None:
        raise UsageError("--target goes with --by-stage", fix="add --by-stage, or leave --target out")


def _check_hashes(bundle: Path, as_json: bool) -> None:
    from ldmc.runtime.checks.opening import Vouched
    from ldmc.runtime.manifest import read_manifest

    manifest = read_manifest(str(bundle))
    Vouched(manifest).check_whole()
    terminal = console(as_json)
    terminal.print(
        f"{len(manifest.files)} files have the size and SHA-256 of the manifest, and there are no others",
        highlight=False,
    )
    print_identity(manifest.sha256, terminal)
    found = {"bundle": bundle.resolve().name, "ok": True, "files": len(manifest.files)}
    emit({**found, "manifest_sha256": manifest.sha256}, as_json)


def _verify(bundle: Path, model: str | None, steps: int, trust: bool, as_json: bool) -> None:
    from ldmc.compiler.verify import verify_bundle
    from ldmc.terminal import RichProgress, print_verify

    terminal = console(as_json)
    with RichProgress(terminal).stage("verify against PyTorch", None):
        report = verify_bundle(bundle, model=model, steps=steps, trust=trust)
    print_verify(report, terminal)
    _answer(bundle, report, terminal, as_json)


def _examine(bundle: Path, asked: Examination, as_json: bool) -> None:
    from ldmc.compiler.fidelity.examine import examine
    from ldmc.terminal import RichProgress
    from ldmc.terminal.fidelity import print_fidelity

    terminal = console(as_json)
    report = examine(bundle, asked, RichProgress(terminal))
    print_fidelity(report, terminal)
    _answer(bundle, report, terminal, as_json)


def _answer(bundle: Path, report: VerifyReport | FidelityReport, terminal: Console, as_json: bool) -> None:
    from ldmc.runtime.manifest import read_manifest

    sha256 = read_manifest(str(bundle)).sha256
    print_identity(sha256, terminal)
    found = {"bundle": bundle.resolve().name, "manifest_sha256": sha256, **report.to_json()}
    require(report, found)
    emit(found, as_json)
