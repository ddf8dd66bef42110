"""Damaged input by the thousand: what the commands do with it must be an error of theirs, soon, and in little memory.

    python benchmarks/mutate.py                        300 of all kinds
    python benchmarks/mutate.py --count 10000 --seed 7
    python benchmarks/mutate.py --kinds onnx,target --count 500
    python benchmarks/mutate.py --only "onnx 7-12"     one trial again, as a problem names it

Each trial damages one whole file by seed (see `benchmarks/mutations/`) and gives it to the commands that read it, in a
worker process that is kept, and killed where a trial hangs. Counted are exceptions that are not ldmc's own, commands
that compute for more than 20 s, wait for 2 minutes or take 1 GiB, raw control characters in what is shown, and
markup of the input in the report. Any of them is exit 1. Nothing is written but temporary folders. Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.mutations.kinds import KINDS  # noqa: E402

_KILL_SECONDS = 400.0  # beyond what commands that end may take on a busy machine
_START_SECONDS = 300.0
_SORTS = ("foreign", "slow", "memory", "raw", "page", "answer")
# Trials of a kind in a thousand: reading a model takes longer than reading a manifest.
_SHARES = {
    "manifest": 240, "records": 90, "checkpoint": 130, "weights": 80, "target": 140, "result": 90, "check": 60,
    "onnx": 170,
}  # fmt: skip
_SAVE = "import sys; from pathlib import Path; from tests.tiny_model import save_tiny_model as s; s(Path(sys.argv[1]))"


@dataclass
class Tally:
    """What came of the trials of one kind. good: commands that ended with exit code 0."""

    trials: int = 0
    good: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    problems: list[dict[str, str]] = field(default_factory=list)


class Worker:
    """One worker process, started again where it was killed."""

    def __init__(self, whole: Path) -> None:
        self._whole = whole
        self._process: subprocess.Popen[str] | None = None

    def run(self, kind: str, seed: str) -> dict[str, Any]:
        """One trial; a worker that dies or hangs is the trial's problem."""
        fresh = self._process is None
        if self._process is None:
            command = [sys.executable, "-m", "benchmarks.mutations.worker", str(self._whole)]
            environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        killer = threading.Timer(_START_SECONDS if fresh else _KILL_SECONDS, process.kill)
        killer.start()
        try:
            process.stdin.write(f"{kind} {seed}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            killer.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.close()
        sort, detail = ("slow", "killed") if process.returncode == -9 else ("foreign", f"died: {process.returncode}")
        return {"good": 0, "problems": [{"sort": sort, "where": f"{kind} {seed}", "command": "?", "detail": detail}]}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):  # it is dead, and has not read all
                self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def make_whole(folder: Path) -> None:
    """The tiny model of the tests and its bundle, from which trials start."""
    model, bundle = str(folder / "model"), str(folder / "bundle.ldmc")
    build = ["-m", "ldmc", "build", "--target", "cpu", "--passes", "onnx,fold", "--model", model, "--no-report"]
    for words in (["-c", _SAVE, model], [*build, "-o", bundle]):
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def run_all(trials: list[tuple[str, str]], workers: int, whole: Path) -> dict[str, Tally]:
    """All trials, each by the next worker that is free."""
    tallies = {kind: Tally() for kind, _ in trials}
    free: SimpleQueue[Worker] = SimpleQueue()
    pool = [Worker(whole) for _ in range(workers)]
    for worker in pool:
        free.put(worker)

    def one(what: tuple[str, str]) -> None:
        worker, start = free.get(), time.monotonic()
        answer = worker.run(*what)
        took = time.monotonic() - start
        free.put(worker)
        tally = tallies[what[0]]
        tally.trials += 1
        tally.good += answer["good"]
        tally.seconds += took
        tally.slowest = max(tally.slowest, took)
        tally.problems += answer["problems"]
        for problem in answer["problems"]:  # told at once: thousands of trials take an hour
            print(f"{problem['sort']}: {problem['where']}: {problem['command']}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(workers) as executor:
        for _ in track(executor.map(one, trials), "trials", len(trials), console=Console(stderr=True)):
            pass
    for worker in pool:
        worker.close()
    return tallies


def show(tallies: dict[str, Tally], console: Console) -> int:
    """The table and the problems; gives how many problems there are."""
    look = {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}  # 80 columns hold it
    table = Table(title="damaged inputs", title_justify="left", **look)
    table.add_column("kind")
    for heading in ("trials", "exit 0", *_SORTS, "minutes", "slowest s"):
        table.add_column(heading, justify="right")
    for kind, tally in tallies.items():
        counts = Counter(problem["sort"] for problem in tally.problems)
        figures = (tally.trials, tally.good, *(counts[sort] for sort in _SORTS))
        table.add_row(kind, *map(str, figures), f"{tally.seconds / 60:.1f}", f"{tally.slowest:.1f}")
    console.print(table)
    problems = [problem for tally in tallies.values() for problem in tally.problems]
    alike = Counter((p["sort"], p["where"].split()[0], p["detail"].rpartition(" at ")[2]) for p in problems)
    seen: set[Any] = set()
    for p in problems:
        key = (p["sort"], p["where"].split()[0], p["detail"].rpartition(" at ")[2])
        if key not in seen:
            seen.add(key)
            line = f"{alike[key]} x {p['sort']}, first {p['where']}: {p['command']}\n    {p['detail']!a}"
            console.print(escape(line), highlight=False, soft_wrap=True)
    return len(problems)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Damaged input by seed, through the commands that read it.")
    parser.add_argument("--count", type=int, default=300, help="trials of all kinds together (default: 300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {','.join(KINDS)} (default: all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--whole", type=Path, help="a folder with model/ and bundle.ldmc (default: made anew)")
    parser.add_argument("--only", help='one trial, such as "onnx 7-12"')
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        parser.error(f"there is no kind {unknown[0]}; kinds are {', '.join(KINDS)}")
    total = sum(_SHARES[kind] for kind in kinds)
    trials = [
        (kind, f"{options.seed}-{index}")
        for kind in kinds
        for index in range(max(1, round(options.count * _SHARES[kind] / total)))
    ]
    if options.only:
        kind, seed = options.only.split()
        trials = [(kind, seed)]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ldmc-whole-") as made:
        folder = options.whole or Path(made)
        if not options.whole:
            make_whole(folder)
        tallies = run_all(trials, min(options.workers, len(trials)), folder)
    console = Console()
    problems = show(tallies, console)
    console.print(f"{len(trials)} trials, {problems} problems, {(time.monotonic() - start) / 60:.1f} minutes")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
