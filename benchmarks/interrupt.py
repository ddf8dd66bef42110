"""Stops a command at seeded moments, by Ctrl-C and SIGTERM in turn, and holds it to what is promised of that.

    python benchmarks/interrupt.py                                   100 moments of a build of the digits model
    python benchmarks/interrupt.py --count 5 -- build --target cpu --random-weights -o x.ldmc

It ends within 2 s, with exit code 130 (143 for a SIGTERM, 130 for a SIGINT, by the shell's count, where Python itself
was still starting), and leaves no process behind, no folder and no file, but for those that the command leaves at its
own end: its bundle, whole, where the signal came after that, and PyTorch's cache among the temporary files.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits-ldm"
DEFAULT = ["build", "--target", "cpu", "--passes", "fp16,onnx,fold", "--model", str(DIGITS), "-o", "x.ldmc"]
LIMIT_SECONDS = 2.0
MARK = "LDMC_INTERRUPT_RUN"  # in the environment of all that a command starts


@dataclass(frozen=True)
class Outcome:
    """What one stop did. moment: seconds from the start to the signal. code: as a shell gives it. left: behind."""

    number: signal.Signals
    moment: float
    code: int
    seconds: float
    left: tuple[str, ...]
    said: str

    @property
    def finished(self) -> bool:
        """The command was done before it could be stopped."""
        return self.code == 0

    def wrong(self, limit: float) -> str:
        """What is not as promised; "" where all is."""
        if self.finished:
            return ""
        starting = 130 if "error: " in self.said else 128 + self.number
        wrong = [f"exit {self.code}"] if self.code not in (130, starting) else []
        wrong += [f"{self.seconds:.2f} s"] if self.seconds > limit else []
        wrong += [f"left {', '.join(self.left)}"] if self.left else []
        return "; ".join(wrong)


def stop(command: list[str], number: signal.Signals, moment: float, work: Path, after: str = "") -> Outcome:
    """Run `ldmc COMMAND` in an empty folder and send it `number` after `moment` seconds; infinity lets it end.

    after: what it says before those seconds begin to count.
    """
    shutil.rmtree(work, ignore_errors=True)
    (work / "tmp").mkdir(parents=True)
    mark = f"{os.getpid()}-{random.random()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(work / "tmp"), MARK: mark}
    log_file = work.parent / "said"
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ldmc", *command], cwd=work, stdout=log, stderr=log, env=environment,
            # as from a terminal: in the background of a script, SIGINT would be ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        start = time.monotonic()
        while after and process.poll() is None and after not in log_file.read_text("utf-8", "replace"):
            time.sleep(0.005)
        try:
            process.wait(None if moment == float("inf") else moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        sent = time.monotonic()
        process.wait()
    ended = time.monotonic()
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    said = log_file.read_text("utf-8", "replace")
    left = [path.relative_to(work).as_posix() for path in sorted(work.rglob("*")) if path != work / "tmp"]
    left = [name for name in left if not any(name.startswith(f"{other}/") for other in left)]
    return Outcome(number, sent - start, code, ended - sent, (*left, *running(mark)), said)


def unusual(left: Sequence[str], whole: Sequence[str], work: Path) -> Iterator[str]:
    """What was left that the command, at its own end, would not have left: a bundle counts if its hashes are right."""
    for name in left:
        if name not in whole:
            yield name
        elif name.endswith(".ldmc"):
            verify = [sys.executable, "-m", "ldmc", "verify", name, "--hashes-only"]
            done = subprocess.run(verify, cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
            if done.returncode:
                yield f"{name}, which is not whole"


def running(mark: str) -> list[str]:
    """Processes that were started under `mark` and still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(f"process {folder.name}: {(folder / 'comm').read_text().strip()}")
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def moments(count: int, seed: int, seconds: float) -> list[tuple[signal.Signals, float]]:
    """Seeded moments of a command that takes `seconds`, spread over all of it, and what to stop it with."""
    draw = random.Random(seed)
    signals = (signal.SIGINT, signal.SIGTERM)
    return [(signals[k % 2], seconds * (k + draw.random()) / count) for k in range(count)]


def main() -> int:
    """Print a line a moment, and what was not as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds from the signal to the end")
    parser.add_argument("command", nargs="*", default=DEFAULT, help="of ldmc; default: a build of the digits model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interrupt-") as folder:
        work = Path(folder) / "work"
        whole = stop(options.command, signal.SIGINT, float("inf"), work)
        if whole.code:
            print(whole.said, file=sys.stderr)
            return 1
        print(f"ldmc {' '.join(options.command)}: {whole.moment:.1f} s", flush=True)
        outcomes = []
        for number, moment in moments(options.count, options.seed, whole.moment):
            outcome = stop(options.command, number, moment, work)
            outcome = replace(outcome, left=tuple(unusual(outcome.left, whole.left, work)))
            outcomes.append(outcome)
            verdict = "finished before" if outcome.finished else outcome.wrong(options.limit) or "as promised"
            print(f"{number.name:8} after {outcome.moment:6.2f} s  exit {outcome.code:3}  {outcome.seconds:5.2f} s  "
                  f"{verdict}", flush=True)
    stopped = [outcome for outcome in outcomes if not outcome.finished]
    wrong = [outcome for outcome in stopped if outcome.wrong(options.limit)]
    ordered = sorted(outcome.seconds for outcome in stopped)
    if ordered:
        print(f"{len(stopped)} stopped, {len(wrong)} not as promised; seconds to the end: median "
              f"{ordered[len(ordered) // 2]:.2f}, most {ordered[-1]:.2f}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
