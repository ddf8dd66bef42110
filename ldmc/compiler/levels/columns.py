"""What a table of levels shows, and why a cell is empty: one description for the terminal, markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ldmc.compiler.levels.compare import peak_bytes
from ldmc.compiler.levels.doubt import MARK, doubt
from ldmc.compiler.markdown import cell

_MIB = 2**20
EMPTY = "-"
_SECONDS = "seconds"


@dataclass(frozen=True)
class Column:
    """One column.

    key: of a level's dictionary, under which `absent` has the reason. read: its number, or None. has_mark: whether
    doubts about it are marked.
    """

    key: str
    heading: str
    read: Callable[[dict[str, Any]], float | None]
    format: str
    has_mark: bool = False

    def cell(self, level: dict[str, Any]) -> str:
        """As people read it; where there is no number, `-`."""
        if self.key == "psnr_db" and level.get("identical"):
            return "equal"
        value = self.read(level)
        if value is None:
            return EMPTY
        mark = MARK if self.has_mark and doubt(level) else ""
        return (_seconds(value) if self.format == _SECONDS else format(value, self.format)) + mark


def _seconds(value: float) -> str:
    """Three digits and more, and never narrower than a thousandth: 0.002, 3.23, 34.6."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _of(key: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda level: level.get(key)


def _phase(phase: str, figure: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda level: (level.get(phase) or {}).get(figure)


def _mib(key: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda level: None if level.get(key) is None else level[key] / _MIB


def _warm_up(level: dict[str, Any]) -> float | None:
    return sum(level["warmup_seconds"]) if level.get("warmup_seconds") else None


def _peak(level: dict[str, Any]) -> float | None:
    found = peak_bytes(level)
    return None if found is None else found / _MIB


DRAWING = (
    Column("denoise", "denoise s", _phase("denoise", "p50_seconds"), _SECONDS),
    Column("decode", "decode s", _phase("decode", "p50_seconds"), _SECONDS),
    Column("total", "total s", _phase("total", "p50_seconds"), _SECONDS),
    Column("total", "p90", _phase("total", "p90_seconds"), _SECONDS),
    Column("total", "p99", _phase("total", "p99_seconds"), _SECONDS),
    Column("run_seconds", "n", lambda level: len(level.get("run_seconds") or ()) or None, "d"),
    Column("speedup", "speedup", _of("speedup"), ".2f", has_mark=True),
    Column("psnr_db", "PSNR dB", _of("psnr_db"), ".1f"),
)
COST = (
    Column("prepare_seconds", "prepare s", _of("prepare_seconds"), ".1f"),
    Column("load_seconds", "load s", _of("load_seconds"), ".2f"),
    Column("first_seconds", "first s", _of("first_seconds"), _SECONDS),
    Column("warmup_seconds", "warm-up s", _warm_up, _SECONDS),
    Column("peak_rss_bytes", "peak MiB", _mib("peak_rss_bytes"), ".0f"),
    Column("peak_gpu_bytes", "GPU MiB", _mib("peak_gpu_bytes"), ".0f"),
    Column("power_watts", "power W", _of("power_watts"), ".2f"),
    Column("power_net_watts", "net W", _of("power_net_watts"), ".2f"),
    Column("energy_joules", "energy J", _of("energy_joules"), ".1f"),
    Column("energy_net_joules", "net J", _of("energy_net_joules"), ".1f"),
)
# Where there is room for it.
SPREAD = Column("spread", "spread", _of("spread"), ".0%")
# The reference project's table, then what it has in Figure 4 and what it does not have.
PAPER = (
    Column("total", "Latency (s)", _phase("total", "p50_seconds"), ".6g"),
    Column("peak_rss_bytes", "Peak Memory (MiB)", _peak, ".1f"),
    Column("power_watts", "Power (W)", _of("power_watts"), ".2f"),
    Column("energy_joules", "Energy (J)", _of("energy_joules"), ".2f"),
    Column("speedup", "Speedup", _of("speedup"), ".2f"),
    Column("denoise", "Denoise (s)", _phase("denoise", "p50_seconds"), ".6g"),
    Column("decode", "Decode (s)", _phase("decode", "p50_seconds"), ".6g"),
    Column("load_seconds", "Load (s)", _of("load_seconds"), ".6g"),
    Column("first_seconds", "First (s)", _of("first_seconds"), ".6g"),
    Column("psnr_db", "PSNR (dB)", _of("psnr_db"), ".2f"),
)


def notes(levels: Sequence[dict[str, Any]], columns: Sequence[Column]) -> list[str]:
    """Why cells are empty, a sentence each: what several levels and columns share is said once."""
    said = [f"{level['name']}: {level['status']}: {level['why']}" for level in levels if level["status"] != "measured"]
    measured = [level for level in levels if level["status"] == "measured"]
    if measured and len(levels) > 1 and levels[0] is not measured[0]:
        name, first = measured[0]["name"], levels[0]["name"]
        said.append(f"speedup and PSNR are relative to {name}: {first} was not measured")
    said += [f"{MARK} {level['name']}: {why}" for level in measured if (why := doubt(level))]
    reasons: dict[str, dict[str, list[str]]] = {}  # reason -> heading -> levels
    for column in columns:
        for level in measured:
            if column.cell(level) == EMPTY:
                reason = level["absent"].get(column.key) or "not known"
                reasons.setdefault(reason, {}).setdefault(column.heading, []).append(level["name"])
    for reason, headings in reasons.items():
        names = list(dict.fromkeys(name for found in headings.values() for name in found))
        where = "" if len(names) == len(measured) else f" of {', '.join(names)}"
        said.append(f"{', '.join(headings)}{where}: {reason}")
    return said


def markdown(result: dict[str, Any]) -> str:
    """The whole table, and the notes under it."""
    columns = (*DRAWING, SPREAD, *COST)
    lines = [
        "| level | " + " | ".join(column.heading for column in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for level in result["levels"]:
        lines.append(f"| {cell(level['name'])} | " + " | ".join(column.cell(level) for column in columns) + " |")
    said = notes(result["levels"], columns)
    if result["interrupted"]:
        said.insert(0, f"interrupted {result['interrupted']}")
    return "\n".join([*lines, "", *(f"- {cell(note)}" for note in said)]) + "\n"


def paper_csv(result: dict[str, Any]) -> str:
    """A line a level in the reference project's columns; where a cell is empty, Notes has why."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["Optimization", *(column.heading for column in PAPER), "Notes"])
    for level in result["levels"]:
        cells = [column.cell(level) for column in PAPER]
        why = "; ".join(notes([level], PAPER))
        writer.writerow([level["title"], *("" if cell == EMPTY else cell for cell in cells), why])
    return stream.getvalue()
