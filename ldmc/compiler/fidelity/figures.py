"""How far values are from their reference: powers added up over several calls, in pieces, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_PIECE_ELEMENTS = 2**20


class Figures:
    """Agreement of values with their reference, as far as they were given.

    worst: largest absolute error; NaN where a value is none.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        self._signal = 0.0
        self._error = 0.0

    def add(self, reference: Any, actual: Any) -> None:
        """Compare one more array of the reference's size, of any float dtype; memory is that of a piece of it."""
        wanted, given = np.ravel(reference), np.ravel(actual)
        for start in range(0, wanted.size, _PIECE_ELEMENTS):
            piece = slice(start, start + _PIECE_ELEMENTS)
            signal = wanted[piece].astype(np.float64)
            error = np.abs(given[piece].astype(np.float64) - signal)
            self._signal += float(np.square(signal).sum())
            self._error += float(np.square(error).sum())
            self.worst = float(np.maximum(self.worst, error.max()))

    @property
    def snr_db(self) -> float:
        """Power of the reference over power of the error, in dB; infinite where they are equal."""
        if self._error == 0:
            return math.inf
        if not math.isfinite(self._error) or self._signal <= 0:
            return -math.inf
        return 10 * math.log10(self._signal / self._error)


class SettledFigures(Figures):
    """Figures of a value that was looked up: all but the elements that are furthest off.

    A nearest-code lookup jumps to another code where two are equally near but for rounding, and is then far off
    there; a fault in it is seen in more places than that. Arrays are small enough to be taken whole.
    """

    _SETTLED = 0.9  # share of the elements that is compared

    def add(self, reference: Any, actual: Any) -> None:
        wanted, given = np.ravel(reference).astype(np.float64), np.ravel(actual).astype(np.float64)
        nearest = np.argsort(np.abs(given - wanted))[: math.ceil(self._SETTLED * wanted.size)]
        super().add(wanted[nearest], given[nearest])
