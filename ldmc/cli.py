"""The command line: the only code that exits, prints help and reads the environment.

Every command keeps to one rule: with --json the result is one JSON object on stdout and everything
else goes to stderr; without it the result is for people. Heavy imports happen inside commands, so
`ldmc --help` answers at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import ldmc
from ldmc.errors import BundleError, Interrupted, LdmcError, UsageError, VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from ldmc.compiler.verify import VerifyReport

_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
_bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ldmc.__version__, prog_name="ldmc")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
def cli(debug: bool) -> None:
    """Ahead-of-time compiler for latent diffusion models on edge devices.

    \b
    Example:
      ldmc build --target cpu --random-weights
      ldmc run ldm-celebahq-256.cpu.ldmc --steps 20 -o face.png
    """


@cli.command()
@click.option("--target", required=True, help="Target name (see `ldmc targets`) or a .toml file.")
@click.option("--passes", metavar="SPEC", help="Passes, e.g. fp16,onnx,fold. Default: the target's.")
@click.option(
    "--model",
    metavar="MODEL",
    help="Preset name, local folder in diffusers layout, or hub id owner/name.",
)
@click.option(
    "--random-weights",
    type=int,
    is_flag=False,
    flag_value=0,
    metavar="[SEED]",
    help="Deterministic placeholder weights: sizes and speeds are real, pictures are noise.",
)
@click.option("--require-weights", is_flag=True, help="Fail where real weights cannot be had.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Bundle folder. Default: NAME.TARGET.ldmc here."
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--keep-intermediates", is_flag=True, help="Keep the ONNX graph and weights of every stage.")
@click.option("--verify", is_flag=True, help="Then run it against PyTorch fp32 and fail where it departs.")
@_json_option
def build(
    target: str,
    passes: str | None,
    model: str | None,
    random_weights: int | None,
    require_weights: bool,
    output: Path | None,
    force: bool,
    keep_intermediates: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Compile a model into a bundle.

    \b
    Example:
      ldmc build --target cpu --passes fp16,onnx,fold --random-weights
      ldmc build --target cpu --model ./my-ldm -o faces.ldmc --verify
    """
    from ldmc.compiler.driver import BuildRequest
    from ldmc.compiler.driver import build as run_build
    from ldmc.compiler.frontend import ModelRequest
    from ldmc.terminal import RichProgress, print_build, print_verify

    _prepare_hub()
    if require_weights and random_weights is not None:
        raise UsageError("--require-weights and --random-weights exclude each other", fix="give one of them")
    console = _console(as_json)
    request = BuildRequest(
        target,
        ModelRequest(model, random_weights, require_weights),
        passes,
        output,
        force,
        keep_intermediates,
    )
    reports: list[Any] = []

    def approve(folder: Path) -> None:
        from ldmc.compiler.verify import verify_bundle

        reports.append(verify_bundle(folder, model=model, cache=False))
        print_verify(reports[-1], console)
        _require(reports[-1])

    result = run_build(request, RichProgress(console), approve if verify else None)
    answer = result.to_json()
    if reports:
        answer["verify"] = reports[-1].to_json()
    print_build(result, console)
    _emit(answer, as_json)


@cli.command()
@_bundle_argument
@click.option("--seed", default=0, show_default=True)
@click.option("--steps", default=20, show_default=True, help="DDIM steps.")
@click.option("--batch", default=1, show_default=True, help="Pictures to draw; picture k has seed SEED+k.")
@click.option("--eta", default=0.0, show_default=True, help="0: deterministic DDIM; 1: as noisy as DDPM.")
@click.option("--grid", is_flag=True, help="Write the batch as one picture.")
@click.option("--threads", type=int, help="Threads of the engine. Default: one per core.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="out.png", show_default=True)
@_json_option
def run(
    bundle: Path,
    seed: int,
    steps: int,
    batch: int,
    eta: float,
    grid: bool,
    threads: int | None,
    output: Path,
    as_json: bool,
) -> None:
    """Draw pictures with a bundle.

    \b
    Example:
      ldmc run digits-ldm.cpu.ldmc --batch 16 --grid -o digits.png
    """
    from rich.markup import escape

    from ldmc import runtime
    from ldmc.runtime import png
    from ldmc.terminal import RichProgress

    console = _console(as_json)
    _check_picture(output)
    with runtime.load(str(bundle), threads=threads) as pipeline:
        for remark in pipeline.remarks:
            console.print(f"[yellow]warning:[/] {escape(remark)}")
        with RichProgress(console).stage("denoise", steps) as advance:
            pictures, seconds = pipeline.generate_timed(
                seed=seed, steps=steps, batch=batch, eta=eta, on_step=lambda _done, _of: advance(1)
            )
    many = batch > 1
    if many and grid:
        pictures, many = png.grid(pictures), False
    paths = (
        [output.with_name(f"{output.stem}-{k:03d}{output.suffix}") for k in range(batch)]
        if many
        else [output]
    )
    for path, picture in zip(paths, pictures if many else [pictures], strict=True):
        png.write_png(str(path), picture)
    height, width = (pictures[0] if many else pictures).shape[:2]
    shown = str(paths[0]) if len(paths) == 1 else f"{paths[0]} ... {paths[-1]}"
    took = f"{seconds['total_seconds']:.2f} s"
    console.print(f"{escape(shown)}  {width}x{height}  {steps} steps  {took}", highlight=False)
    _emit({"files": [str(path) for path in paths], **seconds, "warnings": pipeline.remarks}, as_json)


@cli.command()
@_bundle_argument
@click.option("--steps", default=20, show_default=True)
@click.option("--runs", default=5, show_default=True, help="Measured drawings.")
@click.option("--warmup", default=1, show_default=True, help="Drawings before them.")
@click.option("--batch", default=1, show_default=True)
@click.option("--threads", type=int, help="Threads of the engine. Default: one per core.")
@_json_option
def bench(
    bundle: Path, steps: int, runs: int, warmup: int, batch: int, threads: int | None, as_json: bool
) -> None:
    """Time a bundle: load, first picture, then percentiles; peak memory.

    \b
    Example:
      ldmc bench ldm-celebahq-256.cpu.ldmc --runs 3
    """
    from rich.markup import escape

    from ldmc import runtime
    from ldmc.compiler.meter import reset_peak
    from ldmc.runtime import measure
    from ldmc.terminal import RichProgress, print_bench

    console = _console(as_json)
    start = time.perf_counter()
    with RichProgress(console).stage("prepare", None), runtime.load(str(bundle), threads=threads) as pipeline:
        remarks = pipeline.remarks
    prepare_seconds = time.perf_counter() - start
    for remark in remarks:
        console.print(f"[yellow]warning:[/] {escape(remark)}")
    # Optimising, once per machine, takes more memory than running; it is not part of what is measured.
    reset_peak()
    with RichProgress(console).stage("bench", runs + warmup) as advance:
        result = measure.bench(
            lambda: runtime.load(str(bundle), threads=threads),
            steps=steps,
            runs=runs,
            warmup=warmup,
            batch=batch,
            threads=threads,
            on_run=lambda _done, _of: advance(1),
        )
    result = {"prepare_seconds": prepare_seconds, **result, "warnings": remarks}
    print_bench(result, console)
    _emit(result, as_json)


@cli.command()
@_bundle_argument
@click.option(
    "--model", metavar="MODEL", help="Where the original weights are, if not where the build found them."
)
@click.option("--steps", default=20, show_default=True, help="Steps of the compared picture.")
@click.option("--hashes-only", is_flag=True, help="Check files only; run nothing.")
@_json_option
def verify(bundle: Path, model: str | None, steps: int, hashes_only: bool, as_json: bool) -> None:
    """Check a bundle's files, then its outputs against PyTorch eager fp32 with the same weights.

    \b
    Example:
      ldmc verify digits-ldm.cpu.ldmc
    """
    from ldmc.terminal import RichProgress, print_verify

    _prepare_hub()
    console = _console(as_json)
    if hashes_only:
        from ldmc.runtime.manifest import check_files, read_manifest

        manifest = read_manifest(str(bundle))
        check_files(manifest.root, manifest, hashes=True)
        console.print(
            f"{len(manifest.files)} files have the size and SHA-256 of the manifest", highlight=False
        )
        _emit({"ok": True, "files": len(manifest.files)}, as_json)
        return
    from ldmc.compiler.verify import verify_bundle

    with RichProgress(console).stage("verify against PyTorch", None):
        report = verify_bundle(bundle, model=model, steps=steps)
    print_verify(report, console)
    _require(report)
    _emit(report.to_json(), as_json)


@cli.command()
@_bundle_argument
@_json_option
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
    print_manifest(manifest.data, _console(as_json))
    _emit(manifest.data, as_json)


@cli.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True
)
@click.option("--full", is_flag=True, help="List every node that differs.")
@click.option("--exit-code", is_flag=True, help="Exit 1 where the graphs differ.")
@_json_option
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
        _emit(diff_render.to_json(comparison), True)
    elif form == "markdown":
        click.echo(diff_render.to_markdown(comparison, full=full))
    else:
        diff_render.to_table(comparison, _console(False, stdout=True), full=full)
    if exit_code and not comparison.equal:
        sys.exit(1)


@cli.command()
@_json_option
def passes(as_json: bool) -> None:
    """List the passes: what each takes and gives, and its options.

    \b
    Example:
      ldmc passes
    """
    from ldmc.terminal import describe_passes, print_passes

    described = describe_passes()
    print_passes(described, _console(as_json))
    _emit({"passes": described}, as_json)


@cli.command()
@click.argument("name", required=False)
@_json_option
def targets(name: str | None, as_json: bool) -> None:
    """List the targets, or show one.

    \b
    Example:
      ldmc targets cpu
    """
    from ldmc.targets.target import load_target, target_names
    from ldmc.terminal import print_targets

    found = [load_target(n) for n in ([name] if name else target_names())]
    print_targets(found, _console(as_json), whole=name is not None)
    _emit({"targets": [target.to_json() for target in found]}, as_json)


def _console(as_json: bool, *, stdout: bool = True) -> Console:
    """Where people read: stdout, or stderr where stdout is for JSON."""
    from rich.console import Console

    return Console(stderr=as_json or not stdout, soft_wrap=False)


def _emit(answer: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer, indent=1))


def _require(report: VerifyReport) -> None:
    """Turn a failed verification into an error that carries its figures."""
    if not report.ok:
        raise VerificationError(report.complaint(), fix=report.fix(), result=report.to_json())


def _check_picture(path: Path) -> None:
    """Refuse an output that cannot be written before the drawing, not after."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} does not end in .png", fix="pictures are written as PNG; name the file so")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"there is no folder {path.absolute().parent}", fix="make it, or give another path with -o"
        )


def _prepare_hub() -> None:
    """Keep huggingface_hub's own bars out of ours."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a command, turn errors into one sentence and an exit code."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    signal.signal(signal.SIGTERM, _interrupt)
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        cli.main(args=arguments, prog_name="ldmc", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        _fail(Interrupted("interrupted; nothing was left half-written"), as_json)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "ldmc"
        _fail(UsageError(error.format_message(), fix=f"see `{command} --help`"), as_json)
    except click.ClickException as error:
        _fail(LdmcError(error.format_message()), as_json)
    except Exception as error:
        if debug:
            traceback.print_exc()
        known = _known(error)
        if known is None:
            raise
        _fail(known, as_json)


def _known(error: Exception) -> LdmcError | None:
    """`error` as one of ours; None for a bug."""
    if isinstance(error, LdmcError):
        return error
    if type(error).__name__ in ("BundleProblem", "InputProblem"):
        from ldmc.runtime import BundleProblem

        assert isinstance(error, BundleProblem)
        kinds: dict[int, type[LdmcError]] = {2: UsageError, 5: VerificationError}
        return kinds.get(error.exit_code, BundleError)(error.message, fix=error.fix)
    if isinstance(error, MemoryError):
        return LdmcError("out of memory", fix="close other programs, or build on a larger machine")
    return None


def _fail(error: LdmcError, as_json: bool) -> None:
    click.echo(f"error: {error.message}", err=True)
    if error.fix:
        click.echo(f"fix:   {error.fix}", err=True)
    if as_json:
        click.echo(json.dumps(error.to_json(), indent=1))
    sys.exit(error.exit_code)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
