"""The optimised graph kept beside the model: made once, whole or not there, never in the way."""

import errno
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ldmc.runtime import load, locks, memory
from ldmc.runtime.backends import graph_cache, onnxruntime_cpu
from tests.runtime.tiny_bundle import make_bundle, read_manifest_json, refresh_files, write_manifest

REPOSITORY = Path(__file__).resolve().parents[2]
LATENT = np.random.RandomState(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def _folders(bundle, component="unet"):
    return sorted(path for path in (bundle / component).iterdir() if path.is_dir())


def _only_folder(bundle, component="unet"):
    folder, = _folders(bundle, component)
    return folder


def _load(bundle, **options):
    """Loads, runs the unet, and returns (remarks, output)."""
    with load(bundle, **options) as pipeline:
        return pipeline.remarks, pipeline.unet(LATENT, 500)


def _identities(folder):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_the_first_load_saves_and_the_second_uses_it(bundle):
    _, uncached = _load(bundle, cache=False)
    assert _folders(bundle) == []
    remarks, first = _load(bundle)
    assert remarks == []
    folder = _only_folder(bundle)
    assert folder.name.startswith("optimized-") and len(folder.name) == len("optimized-") + 16
    assert sorted(path.name for path in folder.iterdir()) == ["key.json", "model.onnx", "model.onnx.data"]
    before = _identities(folder)
    remarks, second = _load(bundle)
    assert remarks == []
    assert _identities(_only_folder(bundle)) == before
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, uncached, atol=1e-5)


def test_the_second_load_opens_the_saved_graph_alone(bundle, monkeypatch):
    _load(bundle)
    opened = []
    real = onnxruntime.InferenceSession

    def record(path, options, **rest):
        opened.append((os.path.relpath(path, str(bundle)), options.graph_optimization_level))
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    _load(bundle)
    names = [os.path.join(name, _only_folder(bundle, name).name, "model.onnx") for name in ("unet", "decoder")]
    assert opened == [(name, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL) for name in names]


def test_the_key_holds_all_that_the_graph_depends_on(bundle):
    _load(bundle)
    record = json.loads((_only_folder(bundle) / "key.json").read_text())
    key = record["key"]
    assert key["engine"] == "onnxruntime " + onnxruntime.__version__
    assert key["cpu"]["machine"]
    assert sorted(key["files"]) == ["unet/model.onnx", "unet/model.onnx.data"]
    assert sorted(record) == ["key"]  # what its files must be, nothing in the bundle says


@pytest.mark.parametrize("change", ["engine", "cpu", "level", "model"])
def test_another_key_makes_another_folder_and_removes_the_old(bundle, monkeypatch, change):
    _load(bundle)
    old = _only_folder(bundle)
    if change == "engine":
        monkeypatch.setattr(onnxruntime, "__version__", "9.9.9")
    elif change == "cpu":
        monkeypatch.setattr(onnxruntime_cpu, "cpu_identity", lambda: {"machine": "z80"})
    elif change == "level":
        monkeypatch.setattr(memory, "limit_bytes", lambda: 1)
    else:
        graph = bundle / "unet" / "model.onnx"
        graph.write_bytes(graph.read_bytes() + b"\x12\x01x")  # the same graph, by another producer
        refresh_files(bundle)
    remarks, _ = _load(bundle)
    assert remarks == []
    assert _only_folder(bundle) != old


def test_little_memory_means_the_lean_level(bundle, monkeypatch):
    monkeypatch.setattr(memory, "limit_bytes", lambda: 1)
    _load(bundle)
    key = json.loads((_only_folder(bundle) / "key.json").read_text())["key"]
    assert key["options"]["level"] == "ORT_ENABLE_EXTENDED"


def _truncate_weights(folder):
    os.truncate(str(folder / "model.onnx.data"), 10)


def _truncate_model(folder):
    os.truncate(str(folder / "model.onnx"), 10)


def _garble_model(folder):
    path = folder / "model.onnx"
    path.write_bytes(b"\xff" * path.stat().st_size)


def _remove_weights(folder):
    (folder / "model.onnx.data").unlink()


def _remove_key(folder):
    (folder / "key.json").unlink()


def _garble_key(folder):
    (folder / "key.json").write_text("[1]")


def _change_key(folder):
    record = json.loads((folder / "key.json").read_text())
    record["key"]["engine"] = "another with the same digest"
    (folder / "key.json").write_text(json.dumps(record))


@pytest.mark.parametrize("damage", [
    _truncate_weights, _truncate_model, _garble_model, _remove_weights, _remove_key, _garble_key, _change_key])
def test_a_damaged_folder_is_made_anew(bundle, damage):
    _, expected = _load(bundle)
    damage(_only_folder(bundle))
    damaged = _identities(_only_folder(bundle))
    remarks, output = _load(bundle)
    assert remarks == []
    np.testing.assert_array_equal(output, expected)
    remade = _identities(_only_folder(bundle))
    assert sorted(remade) == ["key.json", "model.onnx", "model.onnx.data"]
    assert remade != damaged
    _load(bundle)
    assert _identities(_only_folder(bundle)) == remade


def test_verify_finds_altered_weights_in_the_saved_graph(bundle):
    _, expected = _load(bundle)
    path = _only_folder(bundle) / "model.onnx.data"
    content = bytearray(path.read_bytes())
    content[3] ^= 0x40
    path.write_bytes(bytes(content))
    remarks, output = _load(bundle, verify=True)
    assert remarks == []
    np.testing.assert_array_equal(output, expected)


def test_what_dead_processes_left_is_removed(bundle):
    left = bundle / "unet" / "optimized-0123456789abcdef.part-1a2b3c4d"
    left.mkdir()
    (left / "model.onnx.data").write_bytes(b"half")
    _load(bundle)
    assert not left.exists()


@pytest.mark.parametrize("code, words", [(errno.EROFS, "Read-only file system"), (errno.EACCES, "Permission denied")])
def test_a_bundle_that_cannot_be_written_still_loads_and_says_so(bundle, monkeypatch, code, words):
    _, expected = _load(bundle, cache=False)
    real = os.mkdir

    def refuse(path, *rest):
        if "optimized-" in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *rest)

    monkeypatch.setattr(os, "mkdir", refuse)
    remarks, output = _load(bundle)
    assert [remark.split(":")[0] for remark in remarks] == ["unet", "decoder"]
    assert "could not be saved in %s" % bundle in remarks[0] and words in remarks[0]
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_a_full_disk_is_seen_before_and_while_writing(bundle, monkeypatch):
    free = onnxruntime_cpu.shutil.disk_usage(str(bundle))._replace(free=1)
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime_cpu.shutil, "disk_usage", lambda path: free)
        remarks, _ = _load(bundle)
    assert "MiB are free" in remarks[0]
    script = ("import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600));"
              "from ldmc.runtime import load; print(load(sys.argv[1]).remarks)")
    done = subprocess.run([sys.executable, "-c", script, str(bundle)], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "could not be saved" in done.stdout
    assert _folders(bundle) == []


def test_a_saved_graph_that_cannot_be_opened_is_not_kept(bundle, monkeypatch):
    real = onnxruntime.InferenceSession

    def refuse(path, options, **rest):
        if "optimized-" in path:
            raise RuntimeError("no kernel")
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    remarks, _ = _load(bundle)
    assert "the saved graph could not be opened again" in remarks[0]
    assert _folders(bundle) == []


def test_an_engine_too_old_to_save_loads_and_says_so(bundle, monkeypatch):
    monkeypatch.setattr(onnxruntime, "__version__", "1.15.1")
    remarks, _ = _load(bundle)
    assert "ONNX Runtime 1.15.1 cannot save" in remarks[0]
    assert _folders(bundle) == []


@pytest.mark.parametrize("ops, packs", [({"Conv": 2}, False), ({"Conv": 2, "DequantizeLinear": 1}, True)])
def test_only_quantised_graphs_pack_their_weights(bundle, monkeypatch, ops, packs):
    manifest = read_manifest_json(bundle)
    for component in manifest["components"].values():
        component["stats"]["ops"] = ops
    write_manifest(bundle, manifest)
    found = set()
    real = onnxruntime.InferenceSession

    def record(path, options, **rest):
        try:
            found.add(options.get_session_config_entry("session.disable_prepacking") != "1")
        except RuntimeError:  # not set
            found.add(True)
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    _load(bundle)
    assert found == {packs}


def test_first_loads_of_several_processes_all_succeed(bundle):
    script = ("import sys, time; sys.path.insert(0, sys.argv[2]); import onnxruntime; from ldmc.runtime import load;"
              "time.sleep(max(0, float(sys.argv[3]) - time.time()));"
              "p = load(sys.argv[1]); print(p.remarks, int(p.generate(steps=2).sum()))")
    command = [sys.executable, "-c", script, str(bundle), str(REPOSITORY), str(time.time() + 1.5)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert outputs[0][0].startswith("[] ")
    _only_folder(bundle)
    _only_folder(bundle, "decoder")


def test_a_lock_that_is_not_given_back_is_not_waited_for_forever(bundle, monkeypatch):
    monkeypatch.setattr(graph_cache, "locked_folder", functools.partial(locks.locked_folder, patience=0))
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, os, sys\nfcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
         "print('held', flush=True)\nsys.stdin.read()", str(bundle / "unet")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    remarks, output = _load(bundle)
    holder.communicate("")
    assert len(remarks) == 1 and "process %d (" % holder.pid in remarks[0]
    assert "has not let go of it for 0 s" in remarks[0]
    np.testing.assert_allclose(output, _load(bundle)[1], atol=1e-5)


def test_a_half_precision_graph_is_saved_too(tmp_path):
    bundle = make_bundle(tmp_path / "half", dtype="float16")
    assert _load(bundle)[0] == []
    assert _load(bundle)[0] == []
    _only_folder(bundle)


def test_after_the_first_load_memory_is_as_after_later_ones(bundle):
    if memory.private_bytes() is None:
        pytest.skip("this system does not say how much memory is private")
    script = ("import sys; from ldmc.runtime import load, memory; import onnxruntime;"
              "p = load(sys.argv[1]); print(memory.private_bytes())")
    command = [sys.executable, "-c", script, str(bundle)]
    sizes = [int(subprocess.check_output(command, cwd=REPOSITORY)) for _ in range(2)]
    assert abs(sizes[0] - sizes[1]) < 8 << 20
