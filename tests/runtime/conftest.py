"""Fixtures of the runtime's tests."""

import gc

import pytest

from tests.runtime.meters.machines import Tools
from tests.runtime.tiny_bundle import make_bundle


@pytest.fixture
def bundle(tmp_path):
    """A whole tiny bundle of this test's own."""
    return make_bundle(tmp_path / "tiny.cpu.ldmc")


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory):
    """A whole tiny bundle that tests only read."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "shared.cpu.ldmc")


@pytest.fixture
def no_collection():
    """What is freed meanwhile is freed by its last reference, at once."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def tools(tmp_path):
    """Programs of this test's own."""
    return Tools(tmp_path / "bin")
