"""What a bench found, as a dictionary for JSON: README's section "JSON" has the keys."""

from __future__ import annotations

import base64
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ldmc.compiler.machine import this_machine
from ldmc.compiler.verify import psnr_db
from ldmc.runtime.level import level_record
from ldmc.runtime.measure import FEW_RUNS, percentile
from ldmc.runtime.png import encode_png

if TYPE_CHECKING:
    from ldmc.compiler.levels.contestant import Contestant
    from ldmc.runtime.meters import Recorder

NOTHING_KEPT = "nothing is kept from one load to the next"
_PACKAGES = ("ldmc", "torch", "diffusers", "onnxruntime", "tensorrt", "tensorrt-rtx", "numpy")
EQUAL = "equal to the baseline's, pixel by pixel"
BASELINE = "it is the baseline"


def row(
    contestant: Contestant, warmup: int, recorder: Recorder | None, idle_watts: float | None, unknown: dict[str, str]
) -> dict[str, Any]:
    """One level of the result, not yet compared with others. unknown: column -> why there is no such figure."""
    measured = contestant.status == "measured"
    columns = level_record(
        contestant.timings if measured else [],
        warmup=warmup,
        memory={**contestant.opened, **contestant.memory} if measured else {},
        recorder=recorder,
        idle_watts=idle_watts,
        absent={**unknown, **contestant.unwatched},
    )
    columns["prepare_seconds"] = contestant.prepare_seconds
    columns["load_seconds"] = contestant.opened.get("load_seconds") if measured else None
    columns.update(speedup=None, speedup_low=None, speedup_high=None, psnr_db=None, picture_png=None)
    reasons = {"prepare_seconds": NOTHING_KEPT, **columns.pop("absent")}
    if not measured:
        reasons = dict.fromkeys(columns, contestant.why)
    return {
        **contestant.level.describe(),
        "status": contestant.status,
        "why": contestant.why or None,
        **columns,
        "identical": False,
        "absent": {name: reasons.get(name, "") for name, value in columns.items() if value is None},
    }


def compare_rows(rows: list[dict[str, Any]], pictures: Mapping[str, Path]) -> None:
    """Fill in, for every level that was measured, its picture, its speedup and its PSNR over the first such level.

    The speedup's interval is that between the middle halves of both levels' runs.

    pictures: name of a level -> its picture, uint8 [H, W, 3], in numpy's format.
    """
    measured = [row for row in rows if row["status"] == "measured"]
    images = {row["name"]: np.load(pictures[row["name"]]) for row in measured}
    slow, fast = _ends(measured[0]) if measured else (0.0, 0.0)
    for row in measured:
        baseline, image = images[measured[0]["name"]], images[row["name"]]
        found = {
            "picture_png": base64.b64encode(encode_png(image)).decode("ascii"),
            "speedup": measured[0]["total"]["p50_seconds"] / row["total"]["p50_seconds"],
        }
        row["absent"].update(speedup_low=BASELINE, speedup_high=BASELINE)
        if row is not measured[0]:
            own_slow, own_fast = _ends(row)
            if None in (measured[0]["spread"], row["spread"]):
                row["absent"].update(speedup_low=FEW_RUNS, speedup_high=FEW_RUNS)
            else:
                found.update(speedup_low=fast / own_slow, speedup_high=slow / own_fast)
            psnr = psnr_db(baseline, image, peak=255.0)
            row["identical"] = math.isinf(psnr)
            found["psnr_db"] = None if math.isinf(psnr) else psnr
        row.update(found)
        row["absent"]["psnr_db"] = EQUAL if row["identical"] else BASELINE
        for name, value in found.items():
            if value is not None:
                del row["absent"][name]


def _ends(row: dict[str, Any]) -> tuple[float, float]:
    """Seconds within which the middle half of its runs lies: the slow end, and the fast one."""
    totals = [run[2] for run in row["run_seconds"]]
    return percentile(totals, 75), percentile(totals, 25)


def packages() -> dict[str, str]:
    """Versions of what computes here, of those that are installed."""
    machine = this_machine()
    found = {name: machine.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}
