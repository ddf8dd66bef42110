"""The command `python3 -m runtime bench`: times this bundle on this device, with its memory and its energy.

    python3 -m runtime bench                         a summary
    python3 -m runtime bench -o nano.json            and a result that `ldmc compare` reads elsewhere
"""

import argparse
import json
import os
import shlex
import shutil
import sys

from ..errors import BundleProblem, InputProblem
from ..files import write_whole
from ..manifest import read_manifest
from ..measure import PHASES, WIDE_SPREAD
from ..speech import counter, say, tell
from ..stopping import EXIT_CODE
from .flow import Bench, Options

MEMORY_WORDS = {
    "peak_cgroup_bytes": "peak of its memory group, ever", "peak_gpu_bytes": "peak of the card's memory",
    "peak_pss_bytes": "peak, its share of pages",
    "peak_rss_bytes": "peak, resident", "peak_system_bytes": "peak rise of the machine's memory in use",
    "private_bytes_after_load": "private after load",
}


def main(arguments):
    """Returns the exit code: 0, or 130 where it was interrupted and what was measured is shown. Raises BundleProblem,
    and KeyboardInterrupt where nothing was measured yet."""
    wanted = _parser().parse_args(arguments)
    if not 0 <= wanted.idle <= 3600:
        raise InputProblem("--idle is %g s; it goes from 0 to 3600" % wanted.idle)
    if wanted.output:
        _check_writable(wanted.output)
    options = Options(
        wanted.steps, wanted.runs, wanted.warmup, wanted.batch, wanted.threads, wanted.seed, wanted.idle,
        not wanted.no_cache, wanted.root, shutil.which, wanted.trust)
    command = " ".join(["python3", "-m", "runtime", "bench"] + [shlex.quote(argument) for argument in arguments])
    result = Bench(read_manifest(wanted.bundle), options, say).run(command, counter("drawing"))
    text = json.dumps(result, indent=2, sort_keys=True) + "\n"
    if wanted.json:
        sys.stdout.write(text)
    else:
        _show(result)
    if wanted.output:  # last: where it cannot be written, what was measured has been said
        _write(wanted.output, text)
        say("wrote %s" % wanted.output)
    return EXIT_CODE if result["interrupted"] else 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python3 -m runtime bench", description="Time this bundle on this device, and measure its memory and its "
        "energy. Let the device do nothing else meanwhile.", epilog="example: python3 -m runtime bench -o nano.json")
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--bundle", default=here, help="bundle folder (default: the one this package lies in)")
    parser.add_argument("--steps", type=int, default=20, help="steps of the bundle's sampler (default: 20)")
    parser.add_argument("--runs", type=int, default=5, help="drawings to measure (default: 5)")
    parser.add_argument("--warmup", type=int, default=1, help="drawings before them (default: 1)")
    parser.add_argument("--batch", type=int, default=1, help="pictures of one drawing (default: 1)")
    parser.add_argument("--threads", type=int, help="threads of one call (default: one per core)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first picture (default: 0)")
    parser.add_argument("--idle", type=float, default=5.0, metavar="SECONDS",
                        help="how long idle power is measured before; 0 leaves it out (default: 5)")
    parser.add_argument("--trust", action="store_true", help="let machine code and scripts of the bundle run that were "
                        "not made here")
    parser.add_argument("--no-cache", action="store_true", help="do not keep the engine's optimised graph on disk")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the result, as JSON, for `ldmc compare`")
    parser.add_argument("--json", action="store_true", help="the result on stdout, as JSON")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)  # where /sys and /proc are, for tests
    return parser


def _check_writable(path):
    """Before long work, as far as can be seen then."""
    folder = os.path.dirname(os.path.abspath(path))
    why = ("it is a folder" if os.path.isdir(path) else "its folder does not exist" if not os.path.isdir(folder)
           else "" if os.access(folder, os.W_OK) else "its folder cannot be written to")
    if why:
        raise BundleProblem("cannot write %s: %s" % (path, why), "give another path")


def _write(path, text):
    try:
        write_whole(path, text)
    except OSError as problem:
        raise BundleProblem("cannot write %s: %s" % (path, problem.strerror or problem), "give another path")


def _show(result):
    level = result["levels"][0]
    tell("%s on %s" % (level["name"], result["device"]))
    if result["interrupted"]:
        tell("interrupted %s" % result["interrupted"])
    tell("prepare  %.3f s, once on this device" % level["prepare_seconds"])
    tell("load     %.3f s" % level["load_seconds"])
    tell("first    %.3f s" % level["first_seconds"])
    if level["open_seconds"]:
        tell("open     %.3f s of the total: components are loaded one at a time" % level["open_seconds"])
    for phase in PHASES:
        found = level[phase]
        tell("%-8s p50 %.3f s, p90 %.3f s, p99 %.3f s, n %d" % (
            phase, found["p50_seconds"], found["p90_seconds"], found["p99_seconds"], found["n"]))
    if level["spread"] is not None:
        tell("spread   %.0f%% of the total: interquartile range over median%s" % (
            100 * level["spread"], "; wide: let the device do nothing else, or take more runs"
            if level["spread"] > WIDE_SPREAD else ""))
    for name in sorted(MEMORY_WORDS):
        if level[name] is not None:
            tell("%s %d MiB" % (MEMORY_WORDS[name], level[name] >> 20))
    _show_power(result["power"], level)


def _show_power(power, level):
    if level["power_watts"] is None:
        tell("power    none: %s" % level["absent"]["power_watts"])
        return
    tell("power    %.2f W (%s), %.2f J a drawing" % (level["power_watts"], power["meter"], level["energy_joules"]))
    if level["power_net_watts"] is None:
        tell("net      none: %s" % level["absent"]["power_net_watts"])
    else:
        tell("net      %.2f W over %.2f W idle, %.2f J a drawing" % (
            level["power_net_watts"], power["idle_watts"], level["energy_net_joules"]))
    for label, watts in sorted(level["rail_watts"].items()):
        tell("  %-16s %.2f W" % (label, watts))
