"""Fixtures: a Nano and an Orin that are none, in today's Python and in the device's own, and bundles for them."""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.runtime.device import Device
from tests.runtime.device_bundle import make_pending_bundle
from tests.runtime.old_python import old_python


@pytest.fixture(scope="session")
def pending(tmp_path_factory):
    """A pending bundle that tests only copy."""
    return make_pending_bundle(tmp_path_factory.mktemp("pending") / "tiny.jetson-nano.ldmc")


@pytest.fixture
def bundle(pending, tmp_path):
    """A pending bundle of this test's own."""
    return shutil.copytree(pending, tmp_path / "tiny.jetson-nano.ldmc")


@pytest.fixture(scope="session")
def finished(pending, tmp_path_factory):
    """The same, finished on a Nano; read-only by agreement."""
    folder = tmp_path_factory.mktemp("finished")
    bundle = shutil.copytree(pending, folder / "tiny.jetson-nano.ldmc")
    done = _device(folder, sys.executable).finish(bundle, "--runs", "1")
    assert done.returncode == 0, done.stderr
    return bundle


@pytest.fixture
def finished_bundle(finished, tmp_path):
    """A finished bundle of this test's own."""
    return shutil.copytree(finished, tmp_path / "tiny.jetson-nano.ldmc")


@pytest.fixture
def nano(tmp_path):
    """A Nano, but for its Python."""
    return _device(tmp_path, sys.executable)


@pytest.fixture(params=["present", "3.6"])
def any_nano(tmp_path, request):
    """A Nano, also with its own Python."""
    return _device(tmp_path, sys.executable if request.param == "present" else old_python())


def _device(tmp_path, python):
    folder = tmp_path / "device"
    folder.mkdir()
    return Device(folder, python=python)
