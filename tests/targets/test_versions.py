"""Version constraints: what parses, and what fits."""

from __future__ import annotations

import pytest

from ldmc.targets.versions import fits, is_constraint


@pytest.mark.parametrize(
    ("version", "constraint", "fit"),
    [
        ("8.2.1.8", ">=8.2,<8.3", True),
        ("8.3", ">=8.2,<8.3", False),
        ("10.3.0", ">=8.2,<8.3", False),
        ("10.3.0", ">=10.3", True),
        ("10.3", "==10.3.0", True),
        ("9.9", ">=10.3", False),
        ("10.16", ">10.3", True),
        ("10.3", ">10.3", False),
        ("10.3", "<=10.3", True),
        ("10.3", "!=10.3", False),
        ("2.13.0+cpu", ">=2.13", True),
        ("1.7rc1", ">= 1.7", True),
        ("unknown", ">=1", False),
    ],
)
def test_what_fits(version: str, constraint: str, fit: bool) -> None:
    assert is_constraint(constraint)
    assert fits(version, constraint) is fit


@pytest.mark.parametrize("text", ["", "1.2", ">=", ">=1.2,", "=>1", ">=1.x", ">=1 <2", "~=1.2"])
def test_what_is_no_constraint(text: str) -> None:
    assert not is_constraint(text)
    with pytest.raises(ValueError, match="no version constraint"):
        fits("1.2", text)
