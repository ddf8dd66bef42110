"""One level of a bench result: what the timed drawings of one bundle, or of one baseline, come to.

A pure function, so that `python3 -m runtime bench` on a device and `ldmc bench` on a host fill in the same columns. A
value that is not known is None, and `absent` has the sentence that stands in its place.
"""

from .measure import FEW_RUNS, PHASES, spread, summary

MEMORY = ("peak_rss_bytes", "peak_pss_bytes", "private_bytes_after_load", "peak_gpu_bytes")
POWER = ("power_watts", "power_net_watts", "energy_joules", "energy_net_joules")
LEAST_READINGS = 3
LEAST_NET_WATTS = 0.01  # below it is what the finest of the meters cannot tell
UNSAID = "this system does not say"


def level_record(timings, warmup=0, memory=None, recorder=None, idle_watts=None, absent=None):
    """The measured columns of one level.

    Args:
        timings: one dict for each drawing, in order: those of `Pipeline.generate_timed`, denoise_seconds,
            decode_seconds, total_seconds, start_monotonic_seconds, end_monotonic_seconds.
        warmup: how many of them come first and are not measured.
        memory: bytes by the names in MEMORY; what it lacks or holds as None is not known.
        recorder: meters.Recorder that ran over the drawings; None where there is no meter.
        idle_watts: power before the work; None where it is not known.
        absent: column -> why it is not known, for what only the caller can say (`power_watts` stands for all POWER).
    Returns: dict of first_seconds, warmup_seconds (list), open_seconds (mean of what of a drawing went into opening
        components, where they are loaded one at a time), denoise, decode, total (see `measure.summary`; None without
        measured drawings), run_seconds (list of [denoise, decode, total]), spread (of the totals, see
        `measure.spread`), the names in MEMORY and in POWER, and
        absent. Power is the mean over the measured drawings, and energy that of one drawing.
    """
    reasons = dict(absent or {})
    measured = timings[warmup:]
    record = {
        "first_seconds": timings[0]["total_seconds"] if timings else None,
        "warmup_seconds": [timing["total_seconds"] for timing in timings[:warmup]],
        "run_seconds": [[timing[phase + "_seconds"] for phase in PHASES] for timing in measured],
    }
    opened = [timing["open_seconds"] for timing in measured if "open_seconds" in timing]
    record["open_seconds"] = sum(opened) / len(opened) if opened else 0.0
    for phase in PHASES:
        record[phase] = summary([timing[phase + "_seconds"] for timing in measured]) if measured else None
    record["spread"] = spread([timing["total_seconds"] for timing in measured])
    if measured:
        reasons.setdefault("spread", FEW_RUNS)
    for name in MEMORY:
        record[name] = (memory or {}).get(name)
    record.update(_power(measured, recorder, idle_watts, reasons))
    record["absent"] = {} if record["warmup_seconds"] else {"warmup_seconds": "there was none"}
    for name in sorted(record):
        if record[name] is None:
            why = "there was no drawing" if name in PHASES + ("first_seconds", "spread") else UNSAID
            record["absent"][name] = reasons.get(name) or why
    return record


def _power(measured, recorder, idle_watts, reasons):
    """The columns in POWER; why they are None goes into `reasons`."""
    found = dict.fromkeys(POWER)
    energies, why = [], ""
    if recorder is None:
        why = reasons.get("power_watts") or "there is no power meter"
    elif not measured:
        why = "there was no drawing"
    else:
        energies, why = _energies(measured, recorder)
    if why:
        reasons.update({name: why for name in POWER})
        return found
    joules = sum(energy.joules for energy in energies)
    seconds = sum(timing["end_monotonic_seconds"] - timing["start_monotonic_seconds"] for timing in measured)
    watts = joules / seconds
    found.update(power_watts=watts, energy_joules=joules / len(measured))
    if idle_watts is None:
        why = reasons.get("power_net_watts") or "idle power was not measured before"
    elif watts - idle_watts < LEAST_NET_WATTS:
        why = "%.2f W while drawing is not above the %.2f W of idling" % (watts, idle_watts)
    if why:
        reasons.update(power_net_watts=why, energy_net_joules=why)
    else:
        net_watts = watts - idle_watts
        found.update(power_net_watts=net_watts, energy_net_joules=net_watts * seconds / len(measured))
    return found


def _energies(measured, recorder):
    """(Energy of each drawing, ""), or ([], why)."""
    energies = []
    for timing in measured:
        energy = recorder.energy(timing["start_monotonic_seconds"], timing["end_monotonic_seconds"])
        if energy is None:
            return [], recorder.why
        energies.append(energy)
    readings = sum(energy.samples for energy in energies)
    if readings < LEAST_READINGS:
        spent = sum(timing["total_seconds"] for timing in measured)
        return [], "%s gave %d readings in the %.2f s of drawing, one every %.2g s; draw longer: more runs or steps" % (
            recorder.meter.title, readings, spent, recorder.interval_seconds)
    return energies, ""
