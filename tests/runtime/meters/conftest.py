"""Fixtures of the meters' tests."""

import pytest

from tests.runtime.meters.machines import Tools


@pytest.fixture
def tools(tmp_path):
    """Programs of this test's own."""
    return Tools(tmp_path / "bin")
