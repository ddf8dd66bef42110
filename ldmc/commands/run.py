"""`ldmc run`: draw pictures with a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from ldmc.commands.common import bundle_argument, console, emit, json_option, sources_option, trust_option, warn
from ldmc.errors import UsageError


@click.command()
@bundle_argument
@click.option("--seed", default=0, show_default=True)
@click.option("--steps", default=20, show_default=True, help="Steps of the bundle's sampler.")
@click.option("--batch", default=1, show_default=True, help="Pictures to draw; picture k has seed SEED+k.")
@click.option("--eta", default=0.0, show_default=True, help="Fresh noise per step, 0 to 1, for DDIM; 1 is DDPM.")
@click.option("--grid", is_flag=True, help="Write the batch as one picture.")
@click.option("--threads", type=int, help="Threads of the engine. Default: one per core.")
@sources_option
@click.option("--verify", is_flag=True, help="Read every file again, and refuse files that the manifest does not list.")
@trust_option
@click.option("-o", "--output", type=click.Path(path_type=Path), default="out.png", show_default=True)
@json_option
def run(
    bundle: Path,
    seed: int,
    steps: int,
    batch: int,
    eta: float,
    grid: bool,
    threads: int | None,
    sources: bool,
    verify: bool,
    trust: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Draw pictures with a bundle.

    \b
    Example:
      ldmc run digits-ldm.cpu.ldmc --batch 16 --grid -o digits.png
    """
    from ldmc import runtime
    from ldmc.runtime import png
    from ldmc.terminal import RichProgress
    from ldmc.terminal.text import escape

    terminal = console(as_json)
    _check_picture(output)
    with runtime.load(str(bundle), verify=verify, threads=threads, sources=sources, trust=trust) as pipeline:
        warn(pipeline.remarks, terminal)
        with RichProgress(terminal).stage("denoise", steps) as advance:
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
    terminal.print(f"{escape(shown)}  {width}x{height}  {steps} steps  {took}", highlight=False)
    emit({"files": [str(path) for path in paths], **seconds, "warnings": pipeline.remarks}, as_json)


def _check_picture(path: Path) -> None:
    """Refuse an output that cannot be written before the drawing, not after."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} does not end in .png", fix="pictures are written as PNG; name the file so")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"there is no folder {path.absolute().parent}", fix="make it, or give another path with -o"
        )
