"""Trials in a process that is kept: reads `KIND SEED` a line, and answers each with a line of JSON.

    python -m benchmarks.mutations.worker FOLDER      FOLDER has model/ and bundle.ldmc, both whole
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.mutations.kinds import Bench
from benchmarks.mutations.samples import samples
from benchmarks.mutations.trial import as_json, trial

_ROOM_BYTES = 6 << 30  # of address space, beyond what the imports take


def main() -> None:
    """Serve until stdin ends."""
    whole = Path(sys.argv[1])
    if not (whole / "model").is_dir() or not (whole / "bundle.ldmc").is_dir():
        sys.exit(f"{whole} has no model/ and bundle.ldmc")
    answers = os.fdopen(os.dup(1), "w")  # trials take the streams of this process
    _import_all()
    _bound_memory()
    with tempfile.TemporaryDirectory(prefix="ldmc-mutate-") as folder:
        bench = Bench(Path(folder), whole / "model", whole / "bundle.ldmc", samples())
        for line in sys.stdin:
            kind, seed = line.split()
            problems, good = trial(kind, seed, bench)
            answers.write(json.dumps({"problems": as_json(problems), "good": good}) + "\n")
            answers.flush()


def _import_all() -> None:
    """What commands import on their first use, so that no trial pays for it."""
    import matplotlib.backends.backend_svg  # noqa: F401

    import ldmc.compiler.driver
    import ldmc.compiler.networks
    import ldmc.report  # noqa: F401
    from ldmc.runtime.onnx_runtime import import_onnxruntime

    import_onnxruntime()
    gc.freeze()  # PyTorch's million objects are not looked through at each collection


def _bound_memory() -> None:
    """What asks for absurdly much fails with MemoryError instead of taking the machine along."""
    with open("/proc/self/statm") as stream:
        now = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _ROOM_BYTES, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
