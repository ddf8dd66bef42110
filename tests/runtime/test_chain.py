"""Components of several parts: run in order, values handed on by name and let go; loaded one component at a time."""

import gc
import json
import weakref

import numpy as np
import onnxruntime
import pytest

import ldmc.runtime.backends as package
from ldmc.runtime import BundleProblem, load
from ldmc.runtime.backends import OpenOptions, onnxruntime_cpu, open_component
from ldmc.runtime.chain import Chain, Segment
from ldmc.runtime.manifest import ComponentEntry
from ldmc.runtime.residency import Components
from tests.runtime.tiny_bundle import cut_unet, make_bundle, read_manifest_json, refresh_files, write_manifest

PRODUCER = b"\x12\x01x"  # a field of an ONNX model: the same graph in another file
LATENT = np.random.RandomState(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def _tensor(name, *shape):
    return {"name": name, "dtype": "float32", "shape": list(shape) or [1]}


def _part(name, reads, gives, form="onnx"):
    return {"name": name, "form": form, "file": name + ".onnx", "inputs": [_tensor(n) for n in reads],
            "outputs": [_tensor(n) for n in gives]}


def _entry(*parts):
    """in -> a, b -> ... -> out, through `parts`."""
    return ComponentEntry("unet", {"form": "onnx-parts", "parts": list(parts), "inputs": [_tensor("in")],
                                   "outputs": [_tensor("out")]})


@pytest.fixture
def cut_bundle(tmp_path):
    """The tiny bundle, its unet in three parts over one weights file."""
    return cut_unet(make_bundle(tmp_path / "cut.cpu.ldmc"), ["time_column", "active"])


class _Manifest(object):
    root = path = "a bundle"


class _Doubling(object):
    """An engine that doubles what it reads; it gives as many values as it is told."""

    def __init__(self, gives):
        self.gives = gives
        self.closed = False

    def run(self, arrays):
        return [sum(arrays) * 2 + k for k in range(self.gives)]

    def close(self):
        self.closed = True


class _Backend(object):
    """A backend module. `opened` notes what was opened together."""

    def __init__(self, together=False, fails=""):
        self.opened = []
        self.engines = []
        self.fails = fails
        if together:
            self.open_parts = self._open_parts

    def open_part(self, manifest, part, options, remarks):
        return self._open([part], part)

    def _open_parts(self, manifest, parts, entry, options, remarks):
        return self._open(parts, entry)

    def _open(self, parts, entry):
        if parts[0].name == self.fails:
            raise BundleProblem("no engine for %s" % self.fails)
        names = [[item.name for item in items] for items in (parts, entry.inputs, entry.outputs)]
        self.opened.append(tuple(names))
        self.engines.append(_Doubling(len(entry.outputs)))
        return self.engines[-1]


@pytest.fixture
def backends(monkeypatch):
    """Backends by module name, for forms `one` and `all`."""
    found = {".one": _Backend(), ".all": _Backend(together=True)}
    monkeypatch.setattr(package, "MODULES", {"one": "one", "all": "all"})
    monkeypatch.setattr(package.importlib, "import_module", lambda name, _: found[name])
    return found


def _open(entry):
    return open_component(_Manifest, entry, OpenOptions(), [])


FOUR = (("p0", ["in"], ["a", "b"]), ("p1", ["a"], ["c"]), ("p2", ["b", "c"], ["d"]), ("p3", ["d", "in"], ["out"]))


def test_values_are_handed_on_by_name(backends):
    component = _open(_entry(*(_part(*part, form="one") for part in FOUR)))
    # a = 2x, b = 2x + 1, c = 2a, d = 2(b + c), out = 2(d + x)
    np.testing.assert_array_equal(component.run([np.ones(1)])[0], [2 * (2 * (3 + 4) + 1)])
    assert [names for names, _, _ in backends[".one"].opened] == [["p0"], ["p1"], ["p2"], ["p3"]]
    component.close()
    assert all(engine.closed for engine in backends[".one"].engines)


@pytest.mark.parametrize("forms, links", [
    (["all"] * 4, [(["p0", "p1", "p2", "p3"], ["in"], ["out"])]),
    (["all", "all", "one", "all"], [(["p0", "p1"], ["in"], ["b", "c"]), (["p3"], ["d", "in"], ["out"])]),
    (["one", "all", "all", "one"], [(["p1", "p2"], ["a", "b"], ["d"])]),
])
def test_consecutive_parts_open_together_where_their_engine_can(backends, forms, links):
    """Of a run of parts, only what is read from before it and after it is seen."""
    entry = _entry(*(_part(*part, form=form) for part, form in zip(FOUR, forms)))
    _open(entry)
    assert backends[".all"].opened == links


def test_a_whole_component_in_one_engine_needs_no_chain(backends):
    component = _open(_entry(*(_part(*part, form="all") for part in FOUR)))
    assert component is backends[".all"].engines[0]


def test_a_part_that_does_not_open_leaves_none_open(backends):
    backends[".one"].fails = "p2"
    with pytest.raises(BundleProblem, match="no engine for p2"):
        _open(_entry(*(_part(*part, form="one") for part in FOUR)))
    assert [engine.closed for engine in backends[".one"].engines] == [True, True]


class _Watching(object):
    """Gives a fresh array, and notes which of those given before are still there."""

    made = []

    def run(self, arrays):
        gc.collect()
        self.seen = [watched() is not None for watched in self.made]
        given = np.zeros(1)
        self.made.append(weakref.ref(given))
        return [given]


def test_a_value_is_let_go_after_its_last_read(monkeypatch):
    monkeypatch.setattr(_Watching, "made", [])
    entry = _entry(_part("p0", ["in"], ["a"]), _part("p1", ["a"], ["b"]), _part("p2", ["b"], ["c"]),
                   _part("p3", ["b", "c"], ["out"]))
    engines = [_Watching() for _ in entry.parts]
    Chain(entry, [(Segment(entry, k, k + 1), engine) for k, engine in enumerate(engines)]).run([np.ones(1)])
    assert [engine.seen for engine in engines] == [[], [True], [False, True], [False, True, True]]


@pytest.mark.parametrize("parts, words", [
    ([("p0", ["other"], ["out"])], "part p0 reads other float32[1], and what is there is nothing"),
    ([("p0", ["in"], ["a"]), ("p1", ["b"], ["out"])], "part p1 reads b float32[1]"),
    ([("p0", ["in"], ["a"])], "component unet gives out float32[1], and what is there is nothing"),
    ([("p1", ["a"], ["out"]), ("p0", ["in"], ["a"])], "part p1 reads a"),
])
def test_parts_that_do_not_fit_together_are_refused(backends, parts, words):
    with pytest.raises(BundleProblem) as caught:
        _open(_entry(*(_part(*part, form="one") for part in parts)))
    assert words in caught.value.message
    assert backends[".one"].opened == []


def test_another_shape_on_the_other_side_of_a_cut_is_refused(backends):
    entry = _entry(_part("p0", ["in"], ["a"], "one"), _part("p1", ["a"], ["out"], "one"))
    entry.parts[1].inputs[0].shape = (2,)
    with pytest.raises(BundleProblem, match=r"part p1 reads a float32\[2\], and what is there is a float32\[1\]"):
        _open(entry)


# A whole bundle


def test_a_cut_bundle_draws_the_same_picture(cut_bundle, tmp_path, monkeypatch):
    real = onnxruntime_cpu._Opener._options  # at optimisation off, bit for bit
    monkeypatch.setattr(onnxruntime_cpu._Opener, "_options", lambda self, _: real(self, "ORT_DISABLE_ALL"))
    with load(cut_bundle, cache=False) as pipeline, load(make_bundle(tmp_path / "whole"), cache=False) as whole:
        np.testing.assert_array_equal(pipeline.unet(LATENT, 500), whole.unet(LATENT, 500))
        np.testing.assert_array_equal(pipeline.generate(steps=3), whole.generate(steps=3))


def _saved(bundle):
    return sorted(path.name.rpartition("-")[0] for path in (bundle / "unet").iterdir() if path.is_dir())


def test_each_part_keeps_an_optimised_graph_of_its_own(cut_bundle, monkeypatch):
    with load(cut_bundle) as pipeline:
        expected = pipeline.unet(LATENT, 3)
        assert pipeline.remarks == []
    assert _saved(cut_bundle) == ["optimized-0", "optimized-1", "optimized-2"]
    opened = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, *rest, **more: opened.append(path) or real(path, *rest, **more))
    with load(cut_bundle) as pipeline:
        np.testing.assert_array_equal(pipeline.unet(LATENT, 3), expected)
    assert len(opened) == 4 and all("optimized-" in path for path in opened)


def test_another_graph_in_one_part_remakes_only_its_own(cut_bundle):
    load(cut_bundle).close()
    before = {path.name: path.stat().st_ino for path in (cut_bundle / "unet").iterdir() if path.is_dir()}
    graph = cut_bundle / "unet" / "1.onnx"
    graph.write_bytes(graph.read_bytes() + PRODUCER)
    refresh_files(cut_bundle)
    load(cut_bundle).close()
    after = {path.name: path.stat().st_ino for path in (cut_bundle / "unet").iterdir() if path.is_dir()}
    assert _saved(cut_bundle) == ["optimized-0", "optimized-1", "optimized-2"]
    remade = [name for name in before if name not in after]
    assert [name.rpartition("-")[0] for name in remade] == ["optimized-1"]


def test_the_disk_a_part_needs_is_that_of_its_own_weights(cut_bundle, monkeypatch):
    manifest = read_manifest_json(cut_bundle)
    for part in manifest["components"]["unet"]["parts"]:
        part["weights_bytes"] = 3 << 20
    write_manifest(cut_bundle, manifest)
    free = onnxruntime_cpu.shutil.disk_usage(str(cut_bundle))._replace(free=2 << 20)
    monkeypatch.setattr(onnxruntime_cpu.shutil, "disk_usage", lambda path: free)
    with load(cut_bundle) as pipeline:
        assert [r for r in pipeline.remarks if "it needs 3 MiB of disk, 2 MiB are free" in r] == pipeline.remarks != []


# One component at a time


@pytest.fixture
def lean_bundle(tmp_path):
    """The tiny bundle, made to be loaded one component at a time."""
    root = make_bundle(tmp_path / "lean.android.ldmc")
    write_manifest(root, dict(read_manifest_json(root), load="one-at-a-time"))
    return root


@pytest.fixture
def sessions(monkeypatch):
    """Which components are open: names, as they open and close."""
    log = []
    real = package.open_component

    def open_component(manifest, entry, options, remarks):
        engine = real(manifest, entry, options, remarks)
        log.append("+" + entry.name)
        close = engine.close
        engine.close = lambda: (log.append("-" + entry.name), close())
        return engine

    monkeypatch.setattr(package, "open_component", open_component)
    return log


def test_one_component_is_open_at_a_time(lean_bundle, sessions):
    with load(lean_bundle) as pipeline:
        assert sessions == ["+decoder", "-decoder", "+unet"]
        _, seconds = pipeline.generate_timed(steps=2)
        assert sessions[3:] == ["-unet", "+decoder"]
        assert 0 < seconds["open_seconds"] <= seconds["decode_seconds"]
        _, seconds = pipeline.generate_timed(steps=2)
        assert sessions[5:] == ["-decoder", "+unet", "-unet", "+decoder"]
        assert seconds["open_seconds"] < seconds["total_seconds"]
    assert sessions[9:] == ["-decoder"]


def test_it_draws_what_all_at_once_draws(lean_bundle, bundle):
    with load(lean_bundle) as lean, load(bundle) as whole:
        assert lean.latent_shape == whole.latent_shape
        np.testing.assert_allclose(lean.unet(LATENT, 7), whole.unet(LATENT, 7), atol=1e-5)
        np.testing.assert_allclose(lean.decode(LATENT), whole.decode(LATENT), atol=1e-5)
        assert np.abs(lean.generate(seed=4, steps=2).astype(int) - whole.generate(seed=4, steps=2)).max() <= 1


def test_held_components_stay_open(bundle, sessions):
    with load(bundle) as pipeline:
        _, seconds = pipeline.generate_timed(steps=2)
        assert sessions == ["+unet", "+decoder"]
        assert seconds["open_seconds"] == 0


def test_what_cannot_be_opened_is_known_before_drawing(lean_bundle):
    (lean_bundle / "decoder" / "model.onnx").write_bytes(b"")
    manifest = read_manifest_json(lean_bundle)
    next(file for file in manifest["files"] if file["path"] == "decoder/model.onnx")["bytes"] = 0
    write_manifest(lean_bundle, manifest)
    with pytest.raises(BundleProblem, match="decoder"):
        load(lean_bundle)


def test_a_remark_is_made_once_however_often_a_component_opens(lean_bundle, monkeypatch):
    monkeypatch.setattr(onnxruntime, "__version__", "1.15.1")
    with load(lean_bundle) as pipeline:
        for _ in range(2):
            pipeline.generate(steps=1)
        assert [remark.split(":")[0] for remark in pipeline.remarks] == ["decoder", "unet"]


def test_little_memory_is_what_one_at_a_time_is_for(lean_bundle):
    """Optimising at the lean level leaves the weights mapped."""
    load(lean_bundle).close()
    key, = (lean_bundle / "unet").glob("optimized-*/key.json")
    assert json.loads(key.read_text())["key"]["options"]["level"] == "ORT_ENABLE_EXTENDED"


def test_after_closing_nothing_opens_again(lean_bundle):
    pipeline = load(lean_bundle)
    pipeline.close()
    with pytest.raises(BundleProblem, match="the pipeline was closed"):
        pipeline.decode(LATENT)


def test_a_component_that_fails_to_open_is_asked_for_again():
    tried = []

    def open_one(name):
        tried.append(name)
        raise BundleProblem("no memory")

    components = Components(open_one, True)
    for _ in range(2):
        with pytest.raises(BundleProblem, match="no memory"):
            components.open("unet")
    assert tried == ["unet", "unet"]
