"""What an examination found: a row per stage, a row per block, and where a component departs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldmc.compiler.verify import bounded


@dataclass(frozen=True)
class StageResult:
    """A component after one stage, against the reference.

    stage: `00-frontend`, then as in the bundle's reports (`02-fold`), then `bundle`: its own files.
    spec: the pass; "" for the first and the last. form: what ran.
    snr_db: signal power over error power. added_db: power of what this stage changed over signal power, -inf where
    not a bit changed. Both, and max_abs_error, are None where the stage cannot run here; `why` says so.
    needed_db: what the SNR must reach.
    """

    component: str
    stage: str
    spec: str
    form: str
    needed_db: float
    snr_db: float | None = None
    added_db: float | None = None
    max_abs_error: float | None = None
    why: str = ""

    @property
    def departs(self) -> bool:
        """Whether the component is out of tolerance after this stage."""
        return self.snr_db is not None and not self.snr_db >= self.needed_db

    def to_json(self) -> dict[str, Any]:
        """One entry of `stages` of `ldmc verify --by-stage --json`."""
        return {
            "component": self.component,
            "stage": self.stage,
            "pass": self.spec or None,
            "form": self.form,
            "snr_db": bounded(self.snr_db),
            "needed_db": self.needed_db,
            "added_db": bounded(self.added_db),
            "max_abs_error": bounded(self.max_abs_error),
            "why": self.why or None,
        }


@dataclass(frozen=True)
class BlockResult:
    """One block of a graph, against the same module of the reference.

    block: the module's path; `output` for what comes after the last one. is_level: it is made of the rows after it.
    snr_db, max_abs_error: of its value as the whole graph computes it, None where the graph has no such value.
    local_snr_db: of its value where the blocks before it gave exactly what the reference's do: its own error.
    None for a level. needed_db: what that must reach. why: what could not be compared, and why not.
    """

    component: str
    block: str
    is_level: bool = False
    snr_db: float | None = None
    local_snr_db: float | None = None
    needed_db: float | None = None
    max_abs_error: float | None = None
    why: str = ""

    @property
    def departs(self) -> bool:
        """Whether its own error is larger than rounding can be."""
        if self.local_snr_db is None or self.needed_db is None:
            return False
        return not self.local_snr_db >= self.needed_db

    def to_json(self) -> dict[str, Any]:
        """One entry of `blocks` of `ldmc verify --by-block --json`."""
        return {
            "component": self.component,
            "block": self.block,
            "is_level": self.is_level,
            "snr_db": bounded(self.snr_db),
            "local_snr_db": bounded(self.local_snr_db),
            "needed_db": self.needed_db,
            "max_abs_error": bounded(self.max_abs_error),
            "departs": self.departs,
            "why": self.why or None,
        }


@dataclass(frozen=True)
class FidelityReport:
    """Outcome of an examination. Rows are in running order; a part that was not asked for has none.

    timesteps: of the UNet's compared calls. remarks: what stood in for what.
    """

    stages: tuple[StageResult, ...] = ()
    blocks: tuple[BlockResult, ...] = ()
    timesteps: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing departs."""
        return not self.complaint()

    @property
    def first_departure(self) -> BlockResult | None:
        """The first block that departs, in running order."""
        return next((row for row in self.blocks if row.departs), None)

    def complaint(self) -> str:
        """What departs, or nothing: the first stage of each component, and the first block."""
        stages = {row.component: row for row in reversed(self.stages) if row.departs}
        said = [
            f"{row.component} departs at stage {row.stage}: SNR {row.snr_db:.1f} dB, "
            f"needed {row.needed_db:.0f} dB"
            for row in reversed(stages.values())
        ]
        if (block := self.first_departure) is not None:
            said.append(self._about(block))
        return "; ".join(said)

    def _about(self, block: BlockResult) -> str:
        others = sum(row.departs for row in self.blocks) - 1
        more = f"; {others} more {'blocks depart' if others > 1 else 'block departs'}" if others else ""
        return (
            f"{block.component}: {block.block} is the first block that departs: given what PyTorch's blocks before "
            f"it give, its SNR is {block.local_snr_db:.1f} dB, needed {block.needed_db:.0f} dB; in the whole graph "
            f"{block.snr_db:.1f} dB, largest error {block.max_abs_error:.3g}{more}"
        )

    def fix(self) -> str:
        """What to do about the complaint."""
        if self.first_departure is not None and not self.stages:
            return "see with --by-stage whether a pass or the file is at fault; a bad file is mended by building again"
        if any(row.departs and row.stage != "bundle" for row in self.stages):
            return "leave the pass out, or keep in fp32 what --by-block shows to lose most: fp16{keep=[...]}"
        return "build the bundle again: its passes are within tolerance, its files are not"

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc verify --by-stage --by-block --json`."""
        first = self.first_departure
        return {
            "ok": self.ok,
            "timesteps": list(self.timesteps),
            "stages": [row.to_json() for row in self.stages],
            "blocks": [row.to_json() for row in self.blocks],
            "first_departure": {"component": first.component, "block": first.block} if first else None,
            "remarks": list(self.remarks),
        }
