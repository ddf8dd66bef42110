"""One damaged input through its commands, in this process: how each ended, how long it took, what it showed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutations.kinds import KINDS, READ, Bench
from benchmarks.mutations.values import SCRIPT

MOST_SECONDS = 20.0  # of computing, children included: other work on the machine does not count
MOST_WAITED_SECONDS = 120.0  # by the clock
MOST_BYTES = 1 << 30  # that one command may take on top of what the process had
_EXIT_CODES = (0, 1, 2, 4, 5)
# C0 less tab and newline, DEL, C1, and what turns the direction of text.
_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Problem:
    """What a command did wrong. sort: foreign, slow, memory, raw, page or answer. where: kind, seed."""

    sort: str
    where: str
    command: str
    detail: str


def trial(kind: str, seed: str, bench: Bench) -> tuple[list[Problem], int]:
    """Damage an input of `kind`, run its commands, make it whole again. Gives problems, and how many ended well."""
    rng = random.Random(f"{kind} {seed}")
    problems: list[Problem] = []
    good = 0
    try:
        for command in KINDS[kind](rng, bench):
            code, found = _command(command, bench)
            problems += [Problem(sort, f"{kind} {seed}", " ".join(command), detail) for sort, detail in found]
            good += code == 0
    finally:
        bench.restore()
    return problems, good


def _command(command: list[str], bench: Bench) -> tuple[int | None, list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []
    _forget_peak()
    before, start, computed = peak_bytes(), time.monotonic(), sum(os.times()[:4])
    code: int | None = None
    shown: list[str] = []
    with _captured(shown):
        try:
            code = _call(command)
        except Exception as error:
            found.append(("foreign", f"{type(error).__name__}: {str(error)[:120]} at {_place(error)}"))
    seconds, computed, taken = time.monotonic() - start, sum(os.times()[:4]) - computed, peak_bytes() - before
    out, err = shown
    if computed > MOST_SECONDS or seconds > MOST_WAITED_SECONDS:
        found.append(("slow", f"{computed:.0f} s computing, {seconds:.0f} s by the clock"))
    if taken > MOST_BYTES or (code and "out of memory" in err):  # which a result may say of a run, too
        found.append(("memory", f"{taken / 2**20:.0f} MiB more; {err[:80]}"))
    if code is not None and code not in _EXIT_CODES:
        found.append(("foreign", f"exit code {code}"))
    if "Traceback" in err:
        found.append(("foreign", f"a traceback on stderr: {err[-200:]}"))
    raw = _RAW.search(out + err)
    if raw is not None:
        found.append(("raw", repr((out + err)[max(0, raw.start() - 40) : raw.end() + 20])))
    found += _wrong_answer(command, code, out)
    if bench.report.is_file() and SCRIPT in bench.report.read_text("utf-8", "replace"):
        found.append(("page", "the report has an element that the input named"))
    return code, found


def _wrong_answer(command: list[str], code: int | None, out: str) -> Iterator[tuple[str, str]]:
    if code is None or "--json" not in command:
        return
    try:
        json.loads(out)
    except ValueError as error:
        yield "answer", f"not JSON: {error}; {out[:60]!r}"


def _call(command: list[str]) -> int:
    if command[0] == READ:
        return _read_model(command[1])
    from ldmc.cli import main

    try:
        main(command)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _read_model(model: str) -> int:
    """What every command does with a model before it lowers it."""
    from ldmc.compiler.frontend import ModelRequest, open_model, read_program
    from ldmc.errors import LdmcError
    from ldmc.runtime.speech import printable

    request = ModelRequest(model)
    try:
        read_program(open_model(request, lambda _: None), request)
    except LdmcError as error:
        import click

        click.echo(printable(f"error: {error.message}"), err=True)
        return error.exit_code
    return 0


@contextlib.contextmanager
def _captured(shown: list[str]) -> Iterator[None]:
    """Both streams of the process, those of its libraries too, as two texts in `shown` once it ends."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        kept, streams = [os.dup(1), os.dup(2)], (sys.stdout, sys.stderr)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(os.dup(1), "w"), "utf-8", "surrogateescape", write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(os.dup(2), "w"), "utf-8", "backslashreplace", write_through=True)
        try:
            yield
        finally:
            sys.stdout.close()
            sys.stderr.close()
            sys.stdout, sys.stderr = streams
            for number, handle in enumerate(kept, start=1):
                os.dup2(handle, number)
                os.close(handle)
            shown += [_whole(stream) for stream in (out, err)]


def _whole(stream: Any) -> str:
    stream.seek(0)
    content: bytes = stream.read()
    return content.decode("utf-8", "backslashreplace")


def _place(error: BaseException) -> str:
    """Where it was raised, and the last place in ldmc above that."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/ldmc/" in frame.filename]
    shown = [frame for frame in (own[-1] if own else None, frames[-1]) if frame is not None]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(shown))


def _forget_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")


def peak_bytes() -> int:
    """The most resident memory since the peak was last forgotten."""
    with contextlib.suppress(OSError), open("/proc/self/status") as stream:
        for line in stream:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def as_json(problems: list[Problem]) -> list[dict[str, str]]:
    """For the pipe between worker and script."""
    return [asdict(problem) for problem in problems]
