"""Packages on an NVIDIA GPU: what is captured, replayed and copied, on a double of torch.cuda that keeps its rules.

The double records every call on its stream. While a graph is captured nothing runs; a replay runs again what was
captured, on the buffers it was captured with.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch as real_torch

from ldmc.runtime.backends import aoti
from ldmc.runtime.backends.aoti_cuda import WARM_UP_CALLS, CudaPart
from ldmc.runtime.component import Component
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.residency import Components
from tests.runtime import overlap

NEEDS = {"torch": real_torch.__version__, "device": "cuda", "machine": "x86_64", "capability": "9.0"}


class Tensor:
    """Memory of the GPU; a write to it while a graph is captured is a node of that graph."""

    def __init__(self, gpu: Gpu, array: np.ndarray) -> None:
        self.gpu = gpu
        self.array = array

    def copy_(self, host: Any) -> None:
        assert not self.gpu.capturing, "a copy from the host is not captured"
        assert isinstance(host, real_torch.Tensor)
        assert (host.numpy().dtype, host.numpy().shape) == (self.array.dtype, self.array.shape)
        self.array[...] = host.numpy()

    def cpu(self) -> Any:
        assert not self.gpu.capturing
        self.gpu.log.append("copy to host")
        return real_torch.from_numpy(self.array.copy())


class Gpu:
    """A GPU with one graph at most."""

    def __init__(self, *, refuses: str = "") -> None:
        self.log: list[str] = []
        self.before_replay: Callable[[], None] = lambda: None
        self.capturing = False
        self.refuses = refuses
        self.nodes: list[Callable[[], None]] = []

    def launch(self, kernel: Callable[[], None]) -> None:
        """Run a kernel, or capture it."""
        if not self.capturing:
            self.log.append("kernel")
            kernel()
            return
        if self.refuses:
            raise RuntimeError(f"CUDA error: {self.refuses}\nCUDA kernel errors might be reported later")
        assert self.log.count("kernel") >= WARM_UP_CALLS, "captured before it was warm"
        self.nodes.append(kernel)


def double_of(gpu: Gpu) -> Any:
    """As much of torch as the backend uses."""

    class CUDAGraph:
        def replay(self) -> None:
            gpu.before_replay()
            gpu.log.append("replay")
            for node in gpu.nodes:
                node()

    @contextlib.contextmanager
    def graph(captured: CUDAGraph) -> Iterator[None]:
        gpu.capturing = True
        try:
            yield
        finally:
            gpu.capturing = False

    class Stream:
        def wait_stream(self, other: Stream) -> None:
            gpu.log.append("wait")

    @contextlib.contextmanager
    def stream(side: Stream) -> Iterator[None]:
        gpu.log.append("side stream")
        yield
        gpu.log.append("main stream")

    main = Stream()
    cuda = types.SimpleNamespace(
        CUDAGraph=CUDAGraph,
        Stream=Stream,
        current_stream=lambda: main,
        stream=stream,
        graph=graph,
        synchronize=lambda: gpu.log.append("synchronize"),
        empty_cache=lambda: gpu.log.append("empty cache"),
        is_available=lambda: True,
        get_device_capability=lambda: (9, 0),
    )

    def zeros(shape: tuple[int, ...], dtype: str, device: str) -> Tensor:
        assert device == "cuda"
        return Tensor(gpu, np.zeros(shape, dtype))

    return types.SimpleNamespace(
        __version__=real_torch.__version__,
        cuda=cuda,
        no_grad=contextlib.nullcontext,
        zeros=zeros,
        from_numpy=real_torch.from_numpy,
        float16="float16",
        float32="float32",
        int64="int64",
    )


def doubling(gpu: Gpu) -> Callable[..., list[Tensor]]:
    """A package: latent * 2 + t, in a buffer that stays the same, as a captured one does."""
    result = np.zeros((1, 2), "float16")

    def run(latent: Tensor, t: Tensor) -> list[Tensor]:
        gpu.launch(lambda: np.copyto(result, latent.array * 2 + t.array, casting="unsafe"))
        return [Tensor(gpu, result)]

    return run


def part(**compiled: str) -> Any:
    tensors = [types.SimpleNamespace(dtype="float16", shape=(1, 2)), types.SimpleNamespace(dtype="int64", shape=(1,))]
    return types.SimpleNamespace(
        name="unet", file="unet/model.pt2", inputs=tensors, outputs=tensors[:1], compiled={**NEEDS, **compiled}
    )


def opened(gpu: Gpu, model: Callable[..., list[Tensor]] | None = None) -> tuple[CudaPart, list[str]]:
    remarks: list[str] = []
    return CudaPart(double_of(gpu), model or doubling(gpu), part(), remarks), remarks


def arrays(value: float, t: int) -> list[np.ndarray]:
    return [np.full((1, 2), value, "float16"), np.array([t])]


def test_it_is_warmed_up_on_a_stream_of_its_own_then_captured() -> None:
    gpu = Gpu()
    _, remarks = opened(gpu)
    expected = ["wait", "side stream", *["kernel"] * WARM_UP_CALLS, "main stream", "wait", "synchronize"]
    assert gpu.log == [*expected, "replay", "synchronize"]
    assert remarks == [] and len(gpu.nodes) == 1


def test_a_call_is_one_replay_on_the_same_buffers() -> None:
    gpu = Gpu()
    unet, _ = opened(gpu)
    gpu.log.clear()
    first = unet.run(arrays(1.5, 1))
    second = unet.run(arrays(3, 2))
    assert gpu.log == ["replay", "copy to host"] * 2
    np.testing.assert_array_equal(first[0], [[4, 4]])  # not overwritten by the second
    np.testing.assert_array_equal(second[0], [[8, 8]])
    assert first[0].dtype == np.float16


@pytest.mark.parametrize("refuses", ["", "not permitted"], ids=["captured", "launched one by one"])
def test_threads_do_not_share_the_buffers(refuses: str) -> None:
    gpu = Gpu(refuses=refuses)
    entry, (cuda_part, _) = part(), opened(gpu)
    meet = overlap.made_to_overlap(lambda: None)
    gpu.before_replay = meet
    model = cuda_part._model
    cuda_part._model = lambda *inputs: [meet(), model(*inputs)][1]
    components = Components(lambda _: Component(entry, cuda_part), False)
    calls = [functools.partial(components.run, "unet", arrays(value, 1)) for value in (1.0, 2.0, 3.0)]
    found = overlap.in_threads(*calls)
    np.testing.assert_array_equal(found, [[[3, 3]], [[5, 5]], [[7, 7]]])


def test_an_input_that_cannot_be_written_to_is_taken(recwarn: pytest.WarningsRecorder) -> None:
    unet, _ = opened(Gpu())
    fixed = np.broadcast_to(np.float16(0.5), (1, 2))
    np.testing.assert_array_equal(unet.run([fixed, np.array([1])])[0], [[2, 2]])
    assert not list(recwarn)


def test_what_cannot_be_captured_runs_without_and_says_so() -> None:
    gpu = Gpu(refuses="operation not permitted when stream is capturing")
    unet, remarks = opened(gpu)
    assert remarks == [
        "unet: PyTorch could not capture a CUDA graph (CUDA error: operation not permitted when stream is capturing); "
        "its kernels are launched one by one, which takes longer"
    ]
    gpu.log.clear()
    np.testing.assert_array_equal(unet.run(arrays(1, 1))[0], [[3, 3]])
    assert gpu.log == ["kernel", "copy to host"]


def test_a_package_that_cannot_run_at_all_is_a_bundle_problem() -> None:
    def broken(*_: Any) -> list[Tensor]:
        raise RuntimeError("out of memory")

    with pytest.raises(BundleProblem, match="PyTorch failed to run component unet: out of memory"):
        opened(Gpu(), broken)


def test_a_closed_part_gives_its_memory_back() -> None:
    gpu = Gpu()
    unet, _ = opened(gpu)
    unet.close()
    assert unet._graph is unet._model is unet._inputs is unet._outputs is None
    assert gpu.log[-1] == "empty cache"


MANIFEST: Any = types.SimpleNamespace(
    root="x.ldmc", target="cuda", requirement=lambda _: ">=2.13,<2.14", file_path=lambda relative: relative,
    listed_path=lambda relative: relative,
)


def test_the_package_is_loaded_for_one_thread_and_runs_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, asked = Gpu(), []
    double = double_of(gpu)

    class Loader:
        def __init__(self, *given: Any) -> None:
            asked.append(given)

        def run(self, tensors: list[Tensor]) -> list[Tensor]:
            return doubling(gpu)(*tensors)

    double._C = types.SimpleNamespace(_aoti=types.SimpleNamespace(AOTIModelPackageLoader=Loader))
    monkeypatch.setattr(aoti, "import_torch", lambda _: double)
    unet = aoti.open_part(MANIFEST, part(), None, [])
    assert asked == [("unet/model.pt2", "model", True, 1, -1)]
    assert unet.run(arrays(1, 1))[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("available", "capability", "sentence"),
    [
        (False, (9, 0), "was compiled for an NVIDIA GPU of compute capability 9.0, and PyTorch .* finds no GPU here"),
        (True, (8, 6), "was compiled for an NVIDIA GPU of compute capability 9.0, and this machine's is of 8.6"),
    ],
)
def test_another_gpu_or_none_is_refused_before_the_package_is_read(
    available: bool, capability: tuple[int, int], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = double_of(Gpu())
    double.cuda.is_available = lambda: available
    double.cuda.get_device_capability = lambda: capability
    monkeypatch.setattr(aoti, "import_torch", lambda _: double)
    with pytest.raises(BundleProblem, match=sentence):
        aoti.open_part(MANIFEST, part(), None, [])
