"""Powers added up in pieces, against the whole computed at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ldmc.compiler.fidelity.figures import Figures, SettledFigures


def test_calls_add_up_as_if_they_were_one_array() -> None:
    noise = np.random.RandomState(0)
    wanted, error = noise.standard_normal((3, 2**20 + 7)), 1e-3 * noise.standard_normal((3, 2**20 + 7))
    figures = Figures()
    for row, off in zip(wanted, error, strict=True):
        figures.add(row, row + off)
    assert figures.snr_db == pytest.approx(10 * np.log10(np.sum(wanted**2) / np.sum(error**2)), abs=1e-6)
    assert figures.worst == pytest.approx(np.abs(error).max(), rel=1e-6)


def test_half_precision_is_compared_in_double() -> None:
    figures = Figures()
    figures.add(np.full(10**5, 6e4, "float32"), np.full(10**5, 6e4 - 32, "float16"))
    assert figures.snr_db == pytest.approx(20 * np.log10(6e4 / 32), abs=0.01)


@pytest.mark.parametrize(
    ("wanted", "given", "snr_db"),
    [
        (1.0, 1.0, math.inf),
        (0.0, 0.0, math.inf),
        (0.0, 1.0, -math.inf),
        (1.0, np.nan, -math.inf),
        (1.0, np.inf, -math.inf),
    ],
)
def test_what_has_no_finite_ratio(wanted: float, given: float, snr_db: float) -> None:
    figures = Figures()
    figures.add(np.full(5, wanted), np.full(5, given))
    assert figures.snr_db == snr_db


def test_a_few_codes_of_a_lookup_may_fall_either_way_and_a_wrong_table_may_not() -> None:
    wanted = np.random.RandomState(0).standard_normal(1000)
    flipped = wanted.copy()
    flipped[::50] += 1.0
    few, plain, table = SettledFigures(), Figures(), SettledFigures()
    few.add(wanted, flipped)
    plain.add(wanted, flipped)
    table.add(wanted, wanted * 1.05)
    assert few.snr_db == math.inf and plain.snr_db < 20
    assert table.snr_db == pytest.approx(-20 * np.log10(0.05), abs=2)
