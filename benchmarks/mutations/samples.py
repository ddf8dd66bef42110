"""Whole results to damage, as commands write them."""

from __future__ import annotations

from typing import Any


def samples() -> dict[str, Any]:
    """Name -> JSON of a bench, of verifications and of a build. They are those that the tests of the report show."""
    from tests.report import samples as shown

    return {"bench": shown.bench(), "bench without power": shown.bench_without_power(), "verify": shown.verify(),
            "build": _build()}  # fmt: skip


def _build() -> dict[str, Any]:
    """`ldmc build --json` of the bundle that trials use."""
    stages = [
        {"component": name, "stage": stage, "seconds": 1.5, "peak_rss_bytes": 5_000_000}
        for name in ("unet", "decoder")
        for stage in ("01-onnx", "02-fold")
    ]
    return {"bundle": "bundle.ldmc", "seconds": 7.5, "peak_rss_bytes": 600_000_000, "stages": stages, "write": {},
            "insertions": [], "report": None}  # fmt: skip
