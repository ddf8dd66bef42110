"""Builds one engine in a process of its own: `python3 -m runtime.trt.worker REQUEST.json`.

The worker answers with a result file, or dies. What that means is decided here:

    killed           SIGKILL: the system ran out of memory                 -> next rung
    crashed          another signal: C++ that could not allocate           -> next rung
    out of memory    TensorRT said so and lived                            -> next rung
    failed           anything else, such as an operator it does not have   -> the step fails
"""

import io
import json
import os

from . import process
from ..checks.paths import inside
from ..files import drop_unfinished

# In TensorRT's and CUDA's own words, lower case; a tactic that lacks workspace ends as the last one.
MEMORY_WORDS = ("out of memory", "outofmemory", "bad_alloc", "insufficient memory", "could not be allocated",
                "cudaerrormemoryallocation", "cannot allocate memory", "memoryerror",
                "could not find any implementation for node")


class Built(object):
    """What became of one build: `outcome` (built, killed, crashed, out of memory, failed), `reason` (a sentence, ""
    when built), `ended` (process.Ended), `details` (the worker's result), `engine` (path, when built)."""

    def __init__(self, outcome, reason, ended, details=None, engine=None):
        self.outcome = outcome
        self.reason = reason
        self.ended = ended
        self.details = details or {}
        self.engine = engine


def build(record, step, settings, on_tick):
    """Builds the engine of `step` with `settings` (a rung with workspace_bytes). Returns: Built."""
    part = record.part(step)
    name = step["part"]
    engine = record.working_path("%s.engine" % name)
    result = record.working_path("%s.result.json" % name)
    request = record.working_path("%s.request.json" % name)
    log = record.working_path("%s.log" % name)
    drop_unfinished(record.folder)  # half an engine is as large as a whole one; the lock keeps others out
    for path in (engine, result):
        if os.path.exists(path):
            os.remove(path)
    timing_cache = record.timing_cache()
    with io.open(request, "w", encoding="utf-8") as stream:
        stream.write(json.dumps({
            "source": inside(record.root, part["source"], record.path), "engine": engine, "result": result,
            "module": record.module, "workspace_bytes": settings.get("workspace_bytes"),
            "tactic_sources": settings.get("tactic_sources"), "timing_cache": timing_cache,
            "sm": None, "weightless": False,
        }, indent=1, sort_keys=True))
    try:
        ended = process.run(["%s.trt.worker" % process.package_name(), request], log, on_tick)
    finally:
        drop_unfinished(record.folder)
        record.keep_timing_cache()
    return _judge(ended, result, engine, log)


def _judge(ended, result, engine, log):
    details = _read(result)
    if ended.was_killed:
        return Built("killed", "the system killed the build: it is out of memory", ended, details)
    if ended.crashed:
        return Built("crashed", "the build died of signal %d" % -ended.code, ended, details)
    if details.get("ok") and os.path.isfile(engine) and os.path.getsize(engine):
        return Built("built", "", ended, details, engine)
    said = details.get("error") or (process.tail(log, 1) or ["exit code %d and no output" % ended.code])[0]
    text = "\n".join([said] + [str(line) for line in details.get("log") or process.tail(log)]).lower()
    if any(word in text for word in MEMORY_WORDS):
        return Built("out of memory", said, ended, details)
    return Built("failed", said, ended, details)


def _read(path):
    """The worker's result; {} where it wrote none, or half of one."""
    try:
        with io.open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
