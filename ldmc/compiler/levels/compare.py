"""Results of several devices put together, relative to the first one's baseline: the reference project's Table 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ldmc.errors import LdmcError, UsageError

BASELINE = "baseline"  # as a level: the first one of each result


@dataclass(frozen=True)
class Row:
    """One level on one device. relative_*: times those of the reference; None, with a reason, where not known.

    latency_seconds: median of a whole drawing. energy_joules: of one drawing.
    """

    device: str
    level: str
    title: str
    latency_seconds: float | None
    relative_latency: float | None
    energy_joules: float | None
    relative_energy: float | None
    peak_bytes: int | None
    power_watts: float | None
    speedup: float | None
    absent: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """rows: in the order given. reference: device and level that everything is relative to. remarks: what differs."""

    rows: tuple[Row, ...]
    reference: tuple[str, str]
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc compare --json`."""
        device, level = self.reference
        return {
            "reference": {"device": device, "level": level},
            "rows": [asdict(row) for row in self.rows],
            "remarks": list(self.remarks),
        }


def compare(results: Sequence[dict[str, Any]], levels: Sequence[str] = ()) -> Comparison:
    """Every level of every result, or those named in `levels`, against the first measured level of the first result.

    Raises:
        UsageError: no result has a level of that name. LdmcError: the first has none that was measured.
    """
    first = next((level for level in results[0]["levels"] if level["status"] == "measured"), None)
    if first is None:
        raise LdmcError(f"{results[0]['device']} has no level that was measured", fix="put another result first")
    rows = [
        _row(result, level, first)
        for result in results
        for place, level in enumerate(result["levels"])
        if not levels or level["name"] in levels or (place == 0 and BASELINE in levels)
    ]
    known = {level["name"] for result in results for level in result["levels"]} | {BASELINE}
    unknown = [name for name in levels if name not in known]
    if unknown:
        raise UsageError(f"no result has a level {unknown[0]!r}", fix=f"levels are {', '.join(sorted(known))}")
    return Comparison(tuple(rows), (results[0]["device"], first["name"]), tuple(_remarks(results)))


def _row(result: dict[str, Any], level: dict[str, Any], reference: dict[str, Any]) -> Row:
    latency, energy = latency_seconds(level), level.get("energy_joules")
    base_latency, base_energy = latency_seconds(reference), reference.get("energy_joules")
    reasons = level["absent"]
    absent: dict[str, str] = {}
    if latency is None:
        absent.update(latency_seconds=_why(level, "total"), relative_latency=_why(level, "total"))
    if energy is None:
        absent.update(energy_joules=_why(level, "energy_joules"), relative_energy=_why(level, "energy_joules"))
    elif base_energy is None:
        absent["relative_energy"] = f"of the reference: {_why(reference, 'energy_joules')}"
    for name in ("power_watts", "speedup"):
        if level.get(name) is None:
            absent[name] = _why(level, name)
    if peak_bytes(level) is None:
        absent["peak_bytes"] = reasons.get("peak_rss_bytes") or _why(level, "peak_gpu_bytes")
    return Row(
        device=result["device"],
        level=level["name"],
        title=level["title"],
        latency_seconds=latency,
        relative_latency=_ratio(latency, base_latency),
        energy_joules=energy,
        relative_energy=_ratio(energy, base_energy),
        peak_bytes=peak_bytes(level),
        power_watts=level.get("power_watts"),
        speedup=level.get("speedup"),
        absent=absent,
    )


def latency_seconds(level: dict[str, Any]) -> float | None:
    """Median seconds of a whole drawing; None where it was not measured."""
    total = level["total"]
    return None if total is None else float(total["p50_seconds"])


def peak_bytes(level: dict[str, Any]) -> int | None:
    """The GPU's memory where a level runs on one, as the reference project counts it; else its process's."""
    found: int | None = level.get("peak_gpu_bytes")
    return found if found is not None else level.get("peak_rss_bytes")


def _why(level: dict[str, Any], column: str) -> str:
    return level["absent"].get(column) or level.get("why") or "not measured"


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or not reference else value / reference


def _remarks(results: Sequence[dict[str, Any]]) -> list[str]:
    """What makes the results hard to compare."""
    remarks = []
    for name, said in (("steps", "DDIM steps"), ("batch", "pictures of a drawing")):
        values = [result["settings"].get(name) for result in results]
        if len(set(values)) > 1:
            told = ", ".join(f"{result['device']}: {value}" for result, value in zip(results, values, strict=True))
            remarks.append(f"{said} differ ({told}), so latency and energy are of different work")
    models = dict.fromkeys(result["model"].get("name") for result in results)
    if len(models) > 1:
        remarks.append(f"the models differ: {', '.join(map(str, models))}")
    for result in results:
        if result.get("interrupted"):
            remarks.append(f"{result['device']}: interrupted {result['interrupted']}")
    return remarks
