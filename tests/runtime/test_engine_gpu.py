"""Engines built ahead of time ask for their GPU first, and say which where it is not there."""

from types import SimpleNamespace

import pytest

from ldmc.runtime.backends import engine_gpu
from ldmc.runtime.errors import BundleProblem

ENGINE = {"part": "unet", "module": "tensorrt_rtx", "compute_capability": "8.6"}
PARTS = [SimpleNamespace(name="unet")]


def manifest(*engines):
    component = {"engine": list(engines)} if engines else {}
    return SimpleNamespace(root="/faces", target="rtx-3070", data={"components": {"unet": component}})


class Gpu:
    """CUDA on a machine with this GPU; or a machine without, where `found` is a BundleProblem."""

    def __init__(self, found):
        self._found = found

    def __call__(self):
        return self

    def compute_capability(self):
        if isinstance(self._found, BundleProblem):
            raise self._found
        return self._found


def opened(monkeypatch, found, *engines):
    gpu = Gpu(found)
    monkeypatch.setattr(engine_gpu, "Cuda", gpu)
    return engine_gpu.open_gpu(manifest(*engines), PARTS) is gpu


def test_the_gpu_they_were_built_for_is_taken(monkeypatch):
    assert opened(monkeypatch, "8.6", ENGINE)


@pytest.mark.parametrize("engines", [(), (dict(ENGINE, part="decoder"),)])
def test_engines_that_were_built_on_this_machine_ask_for_nothing(monkeypatch, engines):
    assert opened(monkeypatch, BundleProblem("it is not asked"), *engines)


def test_a_machine_without_a_gpu_is_told_which_and_what_to_install(monkeypatch):
    with pytest.raises(BundleProblem) as caught:
        opened(monkeypatch, BundleProblem("no CUDA-capable device is detected"), ENGINE)
    assert caught.value.message == (
        "the engines of /faces run on an NVIDIA GPU of compute capability 8.6, and none answers here: "
        "no CUDA-capable device is detected")
    assert "rtx-3070" in caught.value.fix and "pip install tensorrt_rtx" in caught.value.fix


def test_another_gpu_is_refused(monkeypatch):
    with pytest.raises(BundleProblem, match="compute capability 8.6, and this machine's is of 8.9") as caught:
        opened(monkeypatch, "8.9", ENGINE)
    assert caught.value.fix == "build the bundle again for this GPU: trt{sm=89}"
