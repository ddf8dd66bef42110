"""What bench measures of a level: where the number is, how it is written, and why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ldmc.report.inputs import Json
from ldmc.report.units import decibels, mib, number, times

NOT_GIVEN = "the result does not say why"


@dataclass(frozen=True)
class Measure:
    """One column: where its number is, and how it is written.

    key: of the number, and of its reason in `absent`. of: the object it is in. long: its title, in a sentence.
    """

    title: str
    unit: str
    key: str
    written: Callable[[float], str]
    of: str = ""
    long: str = ""

    def value(self, level: Json) -> float | None:
        """The number, or None."""
        holder = (level.get(self.of) or {}) if self.of else level
        found = holder.get(self.key)
        if isinstance(found, list):  # several drawings: what they took together
            found = sum(found) if found else None
        return None if found is None else float(found)

    def why(self, level: Json) -> str:
        """Why there is no number."""
        reasons = level.get("absent") or {}
        said = reasons.get(self.of or self.key) or reasons.get(self.key) or level.get("why") or NOT_GIVEN
        return f"{self.long or self.title}: {said}"


RSS, GPU, ENERGY, SPEEDUP = "peak_rss_bytes", "peak_gpu_bytes", "energy_joules", "speedup"
TOTAL = Measure("Total", "s", "p50_seconds", number, "total")
MEASURES = (
    Measure("Denoise", "s", "p50_seconds", number, "denoise"),
    Measure("Decode", "s", "p50_seconds", number, "decode"),
    TOTAL,
    Measure("p90", "s", "p90_seconds", number, "total"),
    Measure("p99", "s", "p99_seconds", number, "total"),
    Measure("Runs", "", "n", lambda value: f"{value:.0f}", "total"),
    Measure("Spread", "", "spread", "{:.0%}".format),
    Measure("Speedup", "", SPEEDUP, times),
    Measure("PSNR", "dB", "psnr_db", lambda value: decibels(value).removesuffix(" dB")),
    Measure("Peak", "MiB", RSS, mib, long="Peak memory"),
    Measure("PSS", "MiB", "peak_pss_bytes", mib, long="Proportional memory (PSS)"),
    Measure("GPU", "MiB", GPU, mib, long="GPU memory"),
    Measure("Power", "W", "power_watts", number),
    Measure("Energy", "J", ENERGY, number),
    Measure("Net", "J", "energy_net_joules", number, long="Energy above idle"),
    Measure("Load", "s", "load_seconds", number),
    Measure("First", "s", "first_seconds", number, long="First call"),
    Measure("Warm-up", "s", "warmup_seconds", number),
    Measure("Prepare", "s", "prepare_seconds", number, long="Preparing, once on a machine"),
)


def measure(key: str) -> Measure:
    """The one of this key."""
    return next(one for one in MEASURES if one.key == key)


def reason(level: Json, wanted: Measure) -> str:
    """For a row of a chart: the level's own state first."""
    if level["status"] != "measured":
        return f"{level['status']}: {level.get('why') or NOT_GIVEN}"
    return wanted.why(level).partition(": ")[2]


def joined(reasons: Iterable[str]) -> str:
    """Each once."""
    return "; ".join(dict.fromkeys(reasons))
