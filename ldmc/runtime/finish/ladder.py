"""One engine, down its ladder until something works. Each attempt is in the manifest before it starts and after.

    workspace 256 MiB -> killed -> workspace 64 MiB -> killed -> without cuDNN -> smaller parts -> ONNX Runtime
"""

from ..backends.onnxruntime_cuda import INSTALL, PROVIDER
from ..errors import BundleProblem
from ..stopping import undivided
from . import build, plan
from .machine import MIB


def climb_down(record, step, machine, say, on_tick, force):
    """Builds `step`, or puts something else in its place.

    Args: record: Record. machine: Machine. say: writes a line. on_tick: see `process.run`. force: try rungs that are
        predicted not to fit.
    Raises: BundleProblem where the graph is refused, or the ladder has no rung left.
    """
    while True:
        rung = plan.next_rung(step)
        if rung is None:
            raise _exhausted(record, step, machine)
        settings = step["ladder"][rung]
        if not force and _skip(record, step, rung, machine, say):
            continue
        if "finer" in settings:
            record.use_finer(step, settings["finer"])
            say("%s: built as %d smaller parts from here on" % (step["part"], len(settings["finer"])))
            return
        if "fallback" in settings:
            _fall_back(record, step, rung, machine, say)
            return
        if _attempt(record, step, rung, say, on_tick):
            return


def _attempt(record, step, rung, say, on_tick):
    """Builds on one rung; whether that settled the step."""
    settings = step["ladder"][rung]
    say("%s: building, %s" % (step["part"], plan.describe(settings)))
    record.begin_attempt(step, rung)
    try:
        built = build.build(record, step, settings, on_tick)
    except KeyboardInterrupt:
        with undivided():  # else the next run would take it for an attempt that failed
            record.end_attempt(step, {"outcome": "interrupted"})
            record.save()
        raise
    ended = built.ended
    record.end_attempt(step, {
        "outcome": built.outcome, "reason": built.reason or None, "seconds": round(ended.seconds, 3),
        "peak_rss_bytes": built.details.get("peak_rss_bytes") or ended.peak_rss_bytes,
        "least_available_bytes": ended.least_available_bytes})
    say("%s: %s" % (step["part"], _told(step["attempts"][-1], built)))
    if built.outcome == "built":
        details = {key: value for key, value in built.details.items() if key != "ok"}
        record.add_engine(step, built.engine, details)
        return True
    if built.outcome == "failed":
        step["status"] = "failed"
        record.save()
        raise BundleProblem("part %s could not be built: %s" % (step["part"], built.reason),
                            "its log is %s" % record.working_path("%s.log" % step["part"]))
    record.save()
    return False


def _skip(record, step, rung, machine, say):
    """Passes over a rung that is predicted not to fit where a later one is; an attempt that is noted, not made."""
    available = machine.available_bytes
    if plan.fits(step, rung, available):
        return False
    later = [other for other in range(rung + 1, len(step["ladder"]))
             if "fallback" not in step["ladder"][other] and plan.fits(step, other, available)]
    if not later:
        return False
    reason = "predicted to take %d MiB, %d are available" % (plan.peak_bytes(step, rung) // MIB, available // MIB)
    record.begin_attempt(step, rung)
    record.end_attempt(step, {"outcome": "skipped", "reason": reason})
    record.save()
    say("%s: passed over %s: %s" % (step["part"], plan.describe(step["ladder"][rung]), reason))
    return True


def _fall_back(record, step, rung, machine, say):
    if PROVIDER not in (machine.libraries.get("onnxruntime_providers") or []):
        step["status"] = "failed"
        record.save()
        raise BundleProblem("part %s does not fit in this machine's memory with TensorRT, and ONNX Runtime with CUDA "
                            "is not here to run it instead" % step["part"], INSTALL)
    record.begin_attempt(step, rung)
    record.end_attempt(step, {"outcome": "fallback"})
    record.use_onnxruntime(step)
    say("%s: runs in ONNX Runtime on the GPU from here on; TensorRT could not build it in this memory" % step["part"])


def _exhausted(record, step, machine):
    step["status"] = "failed"
    record.save()
    tried = "; ".join("%s: %s" % (plan.describe(step["ladder"][attempt["rung"]]), attempt["outcome"])
                      for attempt in step.get("attempts") or [])
    return BundleProblem("part %s could not be built in any of the ways the bundle knows (%s)" % (step["part"], tried),
                         "%s; then start over: python3 -m runtime finish" % (
                             "; ".join(machine.advice()) or "end other programs"))


def _told(attempt, built):
    text = "%s" % built.outcome
    if built.engine:
        text = "built %d MiB" % (built.details.get("engine_bytes", 0) // MIB)
    text += " in %.1f s" % attempt["seconds"]
    if attempt.get("peak_rss_bytes"):
        text += ", peak %d MiB" % (attempt["peak_rss_bytes"] // MIB)
    if attempt.get("least_available_bytes") is not None:
        text += ", %d MiB left in the machine at the least" % (attempt["least_available_bytes"] // MIB)
    return text + (": %s" % built.reason if built.reason else "")
