"""Draws with the bundle this package lies in. From inside the bundle:

    python3 -m runtime --steps 20 --seed 0 -o out.png
    python3 -m runtime bench -o here.json      times it, with memory and power, for `ldmc compare` (see `bench`)
    python3 -m runtime finish                  where the device has something left to build (see `finish`)
"""

import argparse
import json
import os
import sys

from . import stopping
from .errors import BundleProblem
from .numpy_check import numpy_problem
from .speech import complaint, counter, say, tell

if numpy_problem() is None:
    from .loader import load
    from .png import grid, write_png


def main(arguments=None):
    """Returns the exit code: 0, 1 failed, 2 wrong use, 5 verification failed, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    problem = numpy_problem()
    if problem is not None:
        return _refuse(problem, arguments)
    if arguments[:1] == ["finish"]:
        from .finish.command import main as finish
        return finish(arguments[1:])
    code, stopped = stopping.stoppable(
        lambda: _work(arguments), stopping.Stopped, lambda: os.write(2, b"interrupted\n"))
    if stopped:
        say("interrupted")
        stopping.end_now()
    return code


def _work(arguments):
    try:
        if arguments[:1] == ["bench"]:
            from .bench.command import main as bench_command
            return bench_command(arguments[1:])
        if arguments[:1] == ["finish-helper"]:  # how `finish` runs its own child processes
            return _help_finish(arguments[1], arguments[2:])
        _draw(_parser().parse_args(arguments))
    except BundleProblem as problem:
        say(complaint(problem))
        return problem.exit_code
    except KeyboardInterrupt as problem:
        if isinstance(problem, stopping.Stopped):
            raise
        say("interrupted")
        return stopping.EXIT_CODE
    return 0


def _refuse(problem, arguments):
    """Says that nothing can be done here, in the form that was asked for. Returns the exit code."""
    say(complaint(problem))
    if arguments[:1] == ["finish"] and "--json" in arguments:
        tell(json.dumps({"ok": False, "exit_code": problem.exit_code, "error": problem.message, "fix": problem.fix},
                        indent=2, sort_keys=True))
    return problem.exit_code


def _help_finish(name, arguments):
    from .finish import compare, probe
    return {"compare": compare.main, "probe": probe.main}[name](arguments)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python3 -m runtime", description="Draw with this bundle.",
        epilog="example: python3 -m runtime --steps 20 --seed 0 -o out.png")
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--bundle", default=here, help="bundle folder (default: the one this package lies in)")
    parser.add_argument("-o", "--output", default="out.png", help="picture to write (default: out.png)")
    parser.add_argument("--steps", type=int, default=20, help="steps of the bundle's sampler (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first picture (default: 0)")
    parser.add_argument("--batch", type=int, default=1, help="pictures; more than one are drawn as a grid (default: 1)")
    parser.add_argument("--eta", type=float, default=0.0, help="fresh noise in each step, 0 to 1 (default: 0)")
    parser.add_argument("--threads", type=int, help="threads of one call (default: one per core)")
    parser.add_argument("--verify", action="store_true", help="read every file again, the saved optimised graph too, "
                        "and refuse files that the manifest does not list")
    parser.add_argument("--trust", action="store_true", help="let machine code and scripts of the bundle run that were "
                        "not made here: engines, TorchScript, AOTInductor")
    parser.add_argument("--no-cache", action="store_true", help="do not keep the engine's optimised graph on disk")
    return parser


def _draw(options):
    output = options.output
    with _open(options) as pipeline:
        images, seconds = pipeline.generate_timed(
            seed=options.seed, steps=options.steps, batch=options.batch, eta=options.eta, on_step=counter("step"))
    picture = images if options.batch == 1 else grid(images)
    write_png(output, picture)
    tell("wrote %s: %d x %d, seed %d, %d steps, %.2f s (denoise %.2f, decode %.2f)" % (
        output, picture.shape[1], picture.shape[0], options.seed, options.steps, seconds["total_seconds"],
        seconds["denoise_seconds"], seconds["decode_seconds"]))


def _open(options):
    pipeline = load(options.bundle, verify=options.verify, threads=options.threads, cache=not options.no_cache,
                    trust=options.trust)
    for remark in pipeline.remarks:
        say("warning: %s" % remark)
    return pipeline


if __name__ == "__main__":
    sys.exit(main())
