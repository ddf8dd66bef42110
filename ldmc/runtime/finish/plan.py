"""What is left to build, on which rung each engine starts, and whether memory and disk are enough for it."""

import shutil

from .machine import MIB, Check

TRIED = ("killed", "out of memory", "crashed", "failed", "skipped")
TRIES_UNDER_WHICH_THE_MACHINE_DIED = 2


def next_rung(step):
    """The first rung of `step`'s ladder that is worth trying; None where all were tried.

    A rung that was begun and never ended was cut off, by the power or by a board that hung: it gets a second chance,
    no third.
    """
    attempts = step.get("attempts") or []
    for rung in range(len(step["ladder"])):
        outcomes = [attempt["outcome"] for attempt in attempts if attempt["rung"] == rung]
        if any(outcome in TRIED for outcome in outcomes):
            continue
        if outcomes.count("started") >= TRIES_UNDER_WHICH_THE_MACHINE_DIED:
            continue
        return rung
    return None


def peak_bytes(step, rung):
    """The predicted peak of building `step` on `rung`; None where the bundle has no prediction, and for a rung that
    builds nothing by itself."""
    settings = step["ladder"][rung]
    if "workspace_bytes" not in settings or not step.get("peak_bytes"):
        return None
    first = step["ladder"][0].get("workspace_bytes") or 0
    return step["peak_bytes"] - first + settings["workspace_bytes"]


def describe(settings):
    """A rung in words."""
    if "finer" in settings:
        return "%d smaller parts" % len(settings["finer"])
    if "fallback" in settings:
        return "ONNX Runtime on the GPU"
    sources = settings.get("tactic_sources")
    return "workspace %d MiB%s" % (
        (settings.get("workspace_bytes") or 0) // MIB, "" if sources is None else ", tactics of %s" % " ".join(sources))


def fits(step, rung, available_bytes):
    """Whether `rung` is predicted to fit; a rung that builds nothing by itself does, and so does what is not known."""
    peak = peak_bytes(step, rung)
    return peak is None or available_bytes is None or peak <= available_bytes


def check_memory(steps, machine):
    """Whether each step has a rung that is predicted to fit in what is available; falling back does not count."""
    available = machine.available_bytes
    if available is None:
        return Check("memory", "unknown")
    found = "%d MiB available of %d" % (available // MIB, machine.total_bytes // MIB)
    largest = max([peak_bytes(step, 0) or 0 for step in steps] or [0])
    if not largest:
        return Check("memory", found)
    worst, least = max(((step, _least_peak(step)) for step in steps), key=lambda pair: pair[1])
    found += "; the largest build is predicted to take %d" % (largest // MIB)
    if least <= available:
        return Check("memory", found)
    problem = "building %s is predicted to take %d MiB even on its last rung, and %d are available" % (
        worst["part"], least // MIB, available // MIB)
    fix = "; ".join(machine.advice()) or "end other programs"
    return Check("memory", found, problem, "%s; or go on all the same with --anyway" % fix)


def check_disk(steps, root):
    """Whether the engines fit on the disk beside what is there: as large as their weights, twice while one is moved."""
    needed = sum(step.get("weights_bytes") or 0 for step in steps)
    needed += max([step.get("weights_bytes") or 0 for step in steps] or [0]) // 10
    needed += sum(step.get("weights_bytes") or 0 for step in steps if step.get("embed"))
    free = shutil.disk_usage(root).free
    found = "%d MiB free; the engines need about %d" % (free // MIB, needed // MIB)
    if free >= needed:
        return Check("disk", found)
    return Check("disk", found, "the engines need about %d MiB of disk and %d are free in %s" % (
        needed // MIB, free // MIB, root), "free some space there, or go on all the same with --anyway")


def _least_peak(step):
    """The lowest predicted peak of a step's own builds. Finer parts are smaller, by how much nobody can say here."""
    if any("finer" in settings for settings in step["ladder"]):
        return 0
    peaks = [peak_bytes(step, rung) for rung in range(len(step["ladder"]))]
    return min([peak for peak in peaks if peak is not None] or [0])
