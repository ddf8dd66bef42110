"""One pipeline called from several threads, and one bundle loaded by several: as if one came after the other."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from ldmc.runtime import BundleProblem, load
from ldmc.runtime.backends.graph_cache import GraphCache
from ldmc.runtime.backends.onnxruntime_cpu import OnnxRuntimeComponent
from ldmc.runtime.files import replacing
from ldmc.runtime.residency import Components
from tests.runtime.overlap import drawn_in_threads, drawn_in_turn, in_threads, made_to_overlap
from tests.runtime.tiny_bundle import cut_unet, make_bundle, read_manifest_json, write_manifest

LATENT = np.random.RandomState(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def lean_bundle(bundle):
    """Loaded one component at a time."""
    write_manifest(bundle, dict(read_manifest_json(bundle), load="one-at-a-time"))
    return bundle


@pytest.mark.parametrize("load_as", ["together", "one-at-a-time"])
@pytest.mark.parametrize("cuts", [[], ["hidden", "gate"]], ids=["whole", "in parts"])
def test_pictures_are_those_drawn_one_after_the_other(tmp_path, monkeypatch, cuts, load_as):
    root = make_bundle(tmp_path / "b.ldmc", batch=2)
    if cuts:
        cut_unet(root, cuts)
    write_manifest(root, dict(read_manifest_json(root), load=load_as))
    with load(root) as pipeline:
        expected = drawn_in_turn(pipeline)
        monkeypatch.setattr(OnnxRuntimeComponent, "run", made_to_overlap(OnnxRuntimeComponent.run))
        for one, other in zip(expected, drawn_in_threads(pipeline)):
            np.testing.assert_array_equal(one, other)
    assert len({image.tobytes() for image in expected}) == len(expected)


def test_a_component_is_not_closed_under_a_call(lean_bundle, monkeypatch):
    with load(lean_bundle) as pipeline:
        expected = pipeline.unet(LATENT, 3), pipeline.decode(LATENT)
        monkeypatch.setattr(OnnxRuntimeComponent, "run", made_to_overlap(OnnxRuntimeComponent.run))
        found = in_threads(lambda: pipeline.unet(LATENT, 3), lambda: pipeline.decode(LATENT))
    for one, other in zip(expected, found):
        np.testing.assert_array_equal(one, other)


def test_closing_waits_for_the_call_at_work_and_who_draws_is_told_once(bundle, monkeypatch):
    pipeline = load(bundle)
    at_work, has_returned = threading.Event(), threading.Event()
    real = OnnxRuntimeComponent.run
    returned_before = []

    def run(self, arrays):
        at_work.set()
        while not pipeline._components._is_closed:
            time.sleep(0.002)
        found = real(self, arrays)
        returned_before.append(has_returned.is_set())
        return found

    def draw():
        while True:
            pipeline.unet(LATENT, 3)

    def close():
        at_work.wait()
        pipeline.close()
        has_returned.set()

    monkeypatch.setattr(OnnxRuntimeComponent, "run", run)
    problem, nothing = in_threads(draw, close)
    assert isinstance(problem, BundleProblem) and nothing is None
    assert (problem.message, problem.fix) == ("the pipeline was closed", "load the bundle again")
    assert returned_before == [False]


class _Calling:
    """A component amid whose call a signal handler calls."""

    def __init__(self, handler):
        self.handler = handler
        self.is_closed = False

    def run(self, arrays):
        self.handler()
        assert not self.is_closed
        return arrays

    def close(self):
        self.is_closed = True


def test_a_signal_handler_that_calls_amid_a_call_is_refused_and_may_close():
    unet = _Calling(lambda: components.run("unet", [1]))
    components = Components(lambda name: unet, False)
    with pytest.raises(BundleProblem, match="called by a signal handler amid another call"):
        components.run("unet", [2])
    unet.handler = lambda: None
    assert components.run("unet", [3]) == [3]
    unet.handler = lambda: components.close()
    assert components.run("unet", [4]) == [4]
    assert unet.is_closed
    with pytest.raises(BundleProblem, match="was closed"):
        components.run("unet", [5])


def test_what_another_thread_opens_is_not_among_ones_own_open_seconds():
    components = Components(lambda name: _Calling(lambda: None), True)
    opened, = in_threads(lambda: [components.open("unet"), components.open_seconds][1])
    assert opened > 0 and components.open_seconds == 0
    components.open("unet")
    assert components.open_seconds == 0


def test_first_loads_in_several_threads_make_one_optimised_graph(bundle, monkeypatch):
    made = []
    real = GraphCache.make
    monkeypatch.setattr(GraphCache, "make", made_to_overlap(lambda self, save: [made.append(self), real(self, save)]))
    pipelines = in_threads(*[lambda: load(bundle)] * 3)
    assert [pipeline.remarks for pipeline in pipelines] == [[]] * 3
    assert len(made) == 2  # of the unet and of the decoder
    assert len({pipeline.generate(steps=2).tobytes() for pipeline in pipelines}) == 1
    for pipeline in pipelines:
        pipeline.close()


def test_two_threads_that_write_one_file_leave_it_whole(tmp_path):
    path = tmp_path / "out.png"
    both = threading.Barrier(2)

    def write(content):
        with replacing(path) as stream:
            stream.write(content)
            both.wait()

    assert in_threads(lambda: write(b"one"), lambda: write(b"other")) == [None, None]
    assert path.read_bytes() in (b"one", b"other")
    assert list(tmp_path.iterdir()) == [path]
