"""Results of several devices put together, relative to the first one's baseline: the reference project's Table 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ldmc.compiler.levels.doubt import doubt
from ldmc.errors import LdmcError, UsageError

BASELINE = "baseline"  # as a level: the first one of each result


@dataclass(frozen=True)
class Row:
    """One level on one device. device: its title, and the file where several results are of one.

    relative_*: times those of the reference; None, with a reason, where not known.
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


def compare(results: Mapping[str, dict[str, Any]], levels: Sequence[str] = ()) -> Comparison:
    """Every level of every result, or those named in `levels`, against the first measured level of the first result.

    results: by the name that was given for them; those of one device are told apart by it.

    Raises:
        UsageError: no result has a level of that name. LdmcError: the first has none that was measured.
    """
    name, reference = next(iter(results.items()))
    first = next((level for level in reference["levels"] if level["status"] == "measured"), None)
    if first is None:
        raise LdmcError(f"{name} has no level that was measured", fix="put another result first")
    titled = _titled(results)
    rows = [
        _row(title, level, first)
        for title, result in titled.items()
        for place, level in enumerate(result["levels"])
        if not levels or level["name"] in levels or (place == 0 and BASELINE in levels)
    ]
    known = {level["name"] for result in results.values() for level in result["levels"]} | {BASELINE}
    unknown = [name for name in levels if name not in known]
    if unknown:
        raise UsageError(f"no result has a level {unknown[0]!r}", fix=f"levels are {', '.join(sorted(known))}")
    return Comparison(tuple(rows), (next(iter(titled)), first["name"]), tuple(_remarks(titled)))


def _titled(results: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The results by device; where several are of one device, by that and their name."""
    devices = [result["device"] for result in results.values()]
    return {
        result["device"] if devices.count(result["device"]) == 1 else f"{result['device']}: {name}": result
        for name, result in results.items()
    }


def _row(device: str, level: dict[str, Any], reference: dict[str, Any]) -> Row:
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
        device=device,
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
    total = level.get("total")
    return None if total is None else float(total["p50_seconds"])


def peak_bytes(level: dict[str, Any]) -> int | None:
    """The GPU's memory where a level runs on one, as the reference project counts it; else its process's."""
    found: int | None = level.get("peak_gpu_bytes")
    return found if found is not None else level.get("peak_rss_bytes")


def _why(level: dict[str, Any], column: str) -> str:
    return level["absent"].get(column) or level.get("why") or "not measured"


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or not reference else value / reference


def _remarks(results: Mapping[str, dict[str, Any]]) -> list[str]:
    """What makes the results hard to compare."""
    remarks = []
    for name, said in (("steps", "sampler steps"), ("batch", "pictures of a drawing")):
        values = [result["settings"].get(name) for result in results.values()]
        if len(set(values)) > 1:
            told = ", ".join(f"{title}: {value}" for title, value in zip(results, values, strict=True))
            remarks.append(f"{said} differ ({told}), so latency and energy are of different work")
    models = dict.fromkeys(result["model"].get("name") for result in results.values())
    if len(models) > 1:
        remarks.append(f"the models differ: {', '.join(map(str, models))}")
    for title, result in results.items():
        doubts = ((level["name"], doubt(level)) for level in result["levels"] if level["status"] == "measured")
        remarks += [f"{title}, {name}: {why}" for name, why in doubts if why]
        if result.get("interrupted"):
            remarks.append(f"{title}: interrupted {result['interrupted']}")
    return remarks
