"""The command `python3 -m runtime finish`: builds on this device what could not be built elsewhere.

    python3 -m runtime finish --dry-run      what would be done, in what order; changes nothing. Fails where that would
    python3 -m runtime finish                does it; run it again after whatever stopped it
"""

import argparse
import json
import os
import signal
import sys

from .. import stopping
from ..backends.onnxruntime_cuda import PROVIDER
from ..errors import BundleProblem
from ..leftovers import temporary_folder
from ..locks import locked_file
from ..speech import complaint, printable
from . import embed, plan
from .flow import Finisher, Options

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = "interrupted; what is built is kept: run `python3 -m runtime finish` again to go on"


def main(arguments):
    """Returns the exit code: 0, 1 failed, 2 wrong use, 5 files or outputs are wrong, 130 interrupted."""
    wanted = _parser().parse_args(arguments)
    said = _Speech(wanted.json)
    report = {"ok": False, "exit_code": 1}
    _, stopped = stopping.stoppable(
        lambda: _work(wanted, said, report), stopping.Stopped, lambda: os.write(2, (STOPPED + "\n").encode()), SIGNALS)
    if stopped:
        report.update(exit_code=stopping.EXIT_CODE, error="interrupted")
        said.error(STOPPED)
    report["ok"] = report["exit_code"] == 0
    if wanted.json:
        said.document(report)
    if stopped:
        stopping.end_now()
    return report["exit_code"]


def _work(wanted, said, report):
    """Does it, and puts into `report` how that went."""
    try:
        report["exit_code"] = _dry_run(wanted, said, report) if wanted.dry_run else _finish(wanted, said, report)
    except BundleProblem as problem:
        report.update(exit_code=problem.exit_code, error=problem.message, fix=problem.fix)
        said.error(complaint(problem))
    except BrokenPipeError:
        # Who read our output is gone (an ssh session, `head`): the work so far is in the manifest.
        said.mute()
        report["exit_code"] = stopping.EXIT_CODE


def _parser():
    parser = argparse.ArgumentParser(
        prog="python3 -m runtime finish", description="Build on this device the engines that only it can build, check "
        "them against the reference tensors, and time them. Run it again after whatever stopped it: it goes on.")
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--bundle", default=here, help="bundle folder (default: the one this package lies in)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done; change nothing")
    parser.add_argument("--only", default="", metavar="NAME", help="build this component or part only")
    parser.add_argument("--keep-going", action="store_true", help="go on with the next engine where one fails")
    parser.add_argument("--anyway", action="store_true", help="build even where memory or disk look too small")
    parser.add_argument("--again", action="store_true", help="build everything anew")
    parser.add_argument("--trust", action="store_true", help="let engines run that were not built here")
    parser.add_argument("--steps", type=int, default=20, help="steps of the timed pictures (default: 20)")
    parser.add_argument("--runs", type=int, default=1, help="timed pictures; 0 times nothing (default: 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; progress on stderr")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)  # where /proc and /etc are, for tests
    return parser


def _finisher(wanted, said):
    if wanted.runs < 0 or wanted.steps < 1:
        raise BundleProblem("--runs is %d and --steps is %d; they start at 0 and 1" % (wanted.runs, wanted.steps),
                            exit_code=2)
    options = Options(wanted.only, wanted.keep_going, wanted.anyway, wanted.again, wanted.steps, wanted.runs,
                      wanted.root, wanted.trust)
    return Finisher(wanted.bundle, options, said.line, said.tick)


def _finish(wanted, said, report):
    finisher = _finisher(wanted, said)
    record = finisher.record
    with locked_file(record.working_path("lock")):
        record.reload()
        said.line("checking %s" % record.root)
        finisher.check_listing()
        if wanted.again:
            record.start_again()
        finisher.inspect(record.working_path)
        finisher.refuse()
        finisher.check_files()
        left = finisher.steps_to_build()
        said.line("%d to build, smallest first: %s" % (len(left), ", ".join(step["part"] for step in left))
                  if left else "everything is built")
        problems = finisher.build() + finisher.embed()
        finisher.verify()
        finisher.time()
    report.update(steps=record.steps, verified=record.finish.get("verified"), timing=record.finish.get("timing"))
    if problems:
        raise problems[0]
    if record.pending():
        said.line("not done: %s" % ", ".join(step["part"] for step in record.pending()))
    else:
        said.line("finished: python3 -m runtime --steps 20 -o out.png")
    return 0


def _dry_run(wanted, said, report):
    finisher = _finisher(wanted, said)
    said.line("checking %s" % finisher.record.root)
    finisher.check_listing()
    with temporary_folder("finish-") as folder:  # not in the bundle: a dry run leaves it as it is
        finisher.inspect(lambda name: os.path.join(folder, name))
    finisher.check_files(hashes=False)
    steps = finisher.steps_to_build()
    said.line("%d to build, smallest first%s" % (len(steps), ":" if steps else ""))
    for step in steps:
        said.line("  %s: weights %d MiB%s" % (
            step["part"], (step.get("weights_bytes") or 0) >> 20, ", then embedded" if step.get("embed") else ""))
        first = plan.next_rung(step)
        for rung, settings in enumerate(step["ladder"]):
            peak = plan.peak_bytes(step, rung)
            note = "" if peak is None else "; predicted peak %d MiB" % (peak >> 20)
            if not plan.fits(step, rung, finisher.machine.available_bytes):
                note += ", more than is available"
            tried = first is None or rung < first
            word = "tried before" if tried else "first" if rung == first else "else"
            if "fallback" in settings and PROVIDER not in finisher.machine.libraries["onnxruntime_providers"]:
                note = "; not installed here"
            said.line("    %-12s %s%s" % (word, plan.describe(settings), note))
    for step in finisher.steps_to_embed():
        command = embed.argv(finisher.record.part(step))
        said.line("  %s: is built, to be embedded: %s" % (step["part"], " ".join(command)))
    wrong = finisher.wrong()
    said.line("then: compare with the reference tensors, and time %d picture(s) of %d steps" % (
        wanted.runs, wanted.steps))
    said.line("this machine cannot do it: %s" % "; ".join(check.problem for check in wrong) if wrong
              else "this machine can do it: python3 -m runtime finish")
    report.update(steps=steps, ready=not wrong, checks=[vars(check) for check in finisher.checks])
    finisher.refuse()
    return 0


class _Speech(object):
    """Lines to the user: to stdout, or beside the JSON object to stderr; a counter only on a terminal."""

    def __init__(self, is_json):
        self._out = sys.stderr if is_json else sys.stdout
        self._shown = 0

    def line(self, text):
        """One whole line, at once: what ssh and a pipe show is what has happened."""
        self._erase()
        self._out.write(printable(text) + "\n")
        self._out.flush()

    def tick(self, seconds):
        """Seconds of the child that is running, overwritten in place."""
        if not self._out.isatty():
            return
        self._erase()
        text = "  %d s" % seconds
        self._out.write(text)
        self._out.flush()
        self._shown = len(text)

    def error(self, text):
        """One line on stderr."""
        self._erase()
        sys.stderr.write(printable(text) + "\n")

    def document(self, data):
        """The JSON object, on stdout."""
        sys.stdout.write(json.dumps(data, indent=2, sort_keys=True) + "\n")

    def mute(self):
        """Writes nowhere from here on, so that Python does not fail on a closed pipe as it ends."""
        self._out = sys.stdout = open(os.devnull, "w")

    def _erase(self):
        if self._shown:
            self._out.write("\r" + " " * self._shown + "\r")
            self._shown = 0
