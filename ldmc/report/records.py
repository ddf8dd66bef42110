"""What is in the JSON that a page is made of, as far as it relies on it: bundles' records, builds, verifications."""

from __future__ import annotations

from ldmc.artifacts.kinds import Fault, Flag, Items, Kind, Maybe, Number, Record, Table, Text, Whole
from ldmc.artifacts.manifest import STATS

_TEXT, _BYTES = Text(), Whole(0, 10**18)
_SECONDS, _ERROR, _DECIBELS = Number(0, 1e12), Number(-1e300, 1e300), Number(-1e9, 1e9)

STAGE = Record(
    {"component": _TEXT, "stage": _TEXT, "pass": _TEXT, "before": STATS, "after": STATS, "form": _TEXT},
    {"remarks": Items(_TEXT)},
)

_PHASE = Record(
    {
        "parts": Record(dict.fromkeys(("libraries", "weights", "workspace", "activations"), _BYTES)),
        "peak_bytes": _BYTES,
        "peak_node": _TEXT,
    }
)
_PHASES: dict[str, Kind] = dict.fromkeys(("build_host", "build_device", "run"), _PHASE)
MEMORY = Record(
    {
        "target": _TEXT, "budget_bytes": Maybe(Whole(1, 10**18)), "fits": Flag(),
        "over_bytes": Whole(-(10**18), 10**18), "load": _TEXT, "components": Table(Record(_PHASES)), **_PHASES,
    },
    {
        "basis": Record({}, dict.fromkeys(_PHASES, Record({"basis": _TEXT, "source": _TEXT}))),
        "remedies": Items(Record({"spec": _TEXT, "peak_bytes": _BYTES})),
    },
)  # fmt: skip


class _Run(Record):
    """One component's timeline, whose lists belong together."""

    def fault(self, value: object, place: str) -> Fault | None:
        """See `Kind.fault`."""
        found = super().fault(value, place)
        if found is not None or not isinstance(value, dict):
            return found
        steps = len(value["steps"])
        if len(value["live_bytes"]) != steps:
            return Fault(f"{place}.live_bytes", value["live_bytes"], f"as many as steps, {steps}")
        if value["peak_step"] >= max(steps, 1):
            return Fault(f"{place}.peak_step", value["peak_step"], f"one of {steps} steps")
        return None


TIMELINE = Table(
    _Run(
        {
            "steps": Items(_TEXT),
            "live_bytes": Items(_BYTES),
            "peak_step": Whole(0),
            "alive": Items(Record({"name": _TEXT, "bytes": _BYTES})),
        }
    )
)

_INSERTIONS = Items(Record({"component": _TEXT, "spec": _TEXT, "reason": _TEXT}))
BUILD = Record(
    {
        "bundle": _TEXT,
        "seconds": _SECONDS,
        "stages": Items(
            Record({"component": _TEXT, "stage": _TEXT}, {"seconds": Maybe(_SECONDS), "peak_rss_bytes": Maybe(_BYTES)})
        ),
    },
    {"peak_rss_bytes": Maybe(_BYTES), "insertions": Maybe(_INSERTIONS)},
)

_COMPARED: dict[str, Kind] = {
    "snr_db": Maybe(_DECIBELS), "local_snr_db": Maybe(_DECIBELS), "added_db": Maybe(_DECIBELS),
    "needed_db": Maybe(_DECIBELS), "max_abs_error": Maybe(_ERROR), "why": Maybe(_TEXT), "stage": Maybe(_TEXT),
    "pass": Maybe(_TEXT), "block": Maybe(_TEXT), "is_level": Maybe(Flag()), "departs": Maybe(Flag()),
}  # fmt: skip
_ROWS = Maybe(Items(Record({"component": _TEXT}, _COMPARED)))
CHECK = Record(
    {},
    {
        "ok": Maybe(Flag()), "bundle": Maybe(_TEXT), "components": Maybe(Table(Record({}, _COMPARED))), "stages": _ROWS,
        "blocks": _ROWS, "image_psnr_db": Maybe(_DECIBELS), "overflow": Maybe(_TEXT),
        "error": Maybe(Record({}, {"message": Maybe(_TEXT)})),
    },
)  # fmt: skip
