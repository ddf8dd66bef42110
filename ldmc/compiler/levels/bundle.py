"""A bundle, drawn by its runtime alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ldmc import runtime


class BundleSubject:
    """A bundle's pipeline as `worker.Subject`."""

    def __init__(self, bundle: str, threads: int | None, trust: bool) -> None:
        self._pipeline = runtime.load(bundle, threads=threads, trust=trust)
        self.remarks: list[str] = self._pipeline.remarks

    def draw(
        self, seed: int, steps: int, batch: int, on_step: Callable[[int, int], None]
    ) -> tuple[Any, dict[str, float]]:
        """See `worker.Subject`."""
        images, seconds = self._pipeline.generate_timed(seed=seed, steps=steps, batch=batch, on_step=on_step)
        return images, seconds
