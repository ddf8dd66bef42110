"""Files that are not listed, links that leave, and paths that lead out: on the host and in the bundle's own runtime."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from ldmc.runtime import BundleProblem, load
from ldmc.runtime.checks.inventory import unlisted
from ldmc.runtime.checks.paths import inside
from ldmc.runtime.manifest import read_manifest
from tests.runtime.old_python import old_python
from tests.runtime.tiny_bundle import make_bundle, read_manifest_json, refresh_files, write_manifest

PLANTED = "open(%r, 'w').close()\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bundle that carries its runtime; only copied."""
    return make_bundle(tmp_path_factory.mktemp("whole") / "tiny.cpu.ldmc", runtime=True)


@pytest.fixture
def own(whole, tmp_path):
    """A copy to plant files in."""
    return shutil.copytree(whole, tmp_path / "tiny.cpu.ldmc")


@pytest.fixture(params=["present", "3.6"])
def python(request):
    """The interpreter of a bundle's own runtime."""
    return sys.executable if request.param == "present" else old_python()


def _runtime(bundle, *arguments, python=sys.executable):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([python, "-m", "runtime", *arguments], cwd=str(bundle), env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)


def test_a_bundle_in_use_has_nothing_that_is_not_listed(own, python):
    """Its optimised graph, its pictures and its results are known by name; Python leaves no bytecode."""
    assert _runtime(own, "--steps", "1", python=python).returncode == 0
    done = _runtime(own, "bench", "--idle", "0", "--runs", "1", "--steps", "1", "-o", "here.json", python=python)
    assert done.returncode == 0, done.stderr
    assert unlisted(read_manifest(own)) == []
    done = _runtime(own, "--steps", "1", "--verify", python=python)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("planted", ["numpy.py", "onnxruntime/__init__.py", "runtime/extra.py", "unet/more.data",
                                     "unet/optimized-0123456789abcdef/model.py"])
def test_a_file_that_is_not_listed_is_named(own, ldmc, planted):
    (own / planted).parent.mkdir(exist_ok=True)
    (own / planted).write_text("")
    words = "has 1 file that its manifest does not list: %s" % planted
    with pytest.raises(BundleProblem, match=words) as caught:
        load(own, verify=True).close()
    assert caught.value.exit_code == 5
    for command in (("verify", own, "--hashes-only"), ("run", own, "--verify")):
        done = ldmc(*command)
        assert done.code == 5 and words in done.err


@pytest.mark.parametrize("planted", ["numpy.py", "onnxruntime.py"])
def test_a_planted_module_does_not_run(own, python, planted, tmp_path):
    (own / planted).write_text(PLANTED % str(tmp_path / "it-ran"))
    done = _runtime(own, "--steps", "1", "--verify", python=python)
    assert done.returncode == 5
    assert "has 1 file that its manifest does not list: %s" % planted in done.stderr
    assert _runtime(own, "--steps", "1", python=python).returncode == 0
    assert not (tmp_path / "it-ran").exists()


def test_bytecode_has_no_place(own, tmp_path):
    done = _runtime(own, "--steps", "1")
    assert done.returncode == 0 and [path for path in own.rglob("__pycache__") if path.is_dir()] == []
    (own / "runtime" / "__pycache__").unlink()
    (own / "runtime" / "__pycache__").mkdir()
    (own / "runtime" / "__pycache__" / "loader.cpython-36.pyc").write_bytes(b"poison")
    with pytest.raises(BundleProblem, match="runtime/__pycache__ is missing"):
        load(own)
    manifest = read_manifest_json(own)
    manifest["files"] = [entry for entry in manifest["files"] if not entry["path"].endswith("__pycache__")]
    write_manifest(own, manifest)  # as in bundles of earlier versions
    with pytest.raises(BundleProblem, match="does not list: runtime/__pycache__/loader.cpython-36.pyc"):
        load(own, verify=True)


@pytest.mark.parametrize("name", ["unet/model.onnx.data", "unet", "manifest.json"])
def test_a_link_that_leaves_the_bundle(bundle, tmp_path, name):
    moved = shutil.move(str(bundle / name), str(tmp_path / "elsewhere"))
    (bundle / name).symlink_to(moved)
    with pytest.raises(BundleProblem, match="names a file outside the bundle|link that leaves the bundle"):
        load(bundle)


def test_a_link_that_stays(bundle):
    weights = bundle / "unet" / "model.onnx.data"
    kept = bundle / "unet" / "kept.data"
    weights.rename(kept)
    weights.symlink_to("kept.data")
    load(bundle).close()
    with pytest.raises(BundleProblem, match="does not list: unet/kept.data"):
        load(bundle, verify=True)


def test_a_folder_that_is_a_link_to_elsewhere_is_named(bundle, tmp_path):
    (bundle / "more").symlink_to(tmp_path)
    assert unlisted(read_manifest(bundle)) == ["more"]


@pytest.mark.parametrize("relative", ["", "/etc/passwd", "../x", "a/../../x", "C:\\x", "C:x", "\\\\host\\x", "a\n",
                                      "a\x1b[2J", "-rf", "unet/--load"])
def test_paths_that_no_bundle_has(tmp_path, relative):
    with pytest.raises(BundleProblem, match="names a file"):
        inside(str(tmp_path), relative, "here")


def test_paths_that_one_may_have(tmp_path):
    for relative in ("a", "a/b.c", "\u00fcnet/model.onnx", "a b/c-d"):
        assert inside(str(tmp_path), relative, "here") == os.path.join(str(tmp_path), *relative.split("/"))


@pytest.mark.parametrize("change, words", [
    (lambda m: m.update(files=[]), "files is empty"),
    (lambda m: m.update(files=[f for f in m["files"] if f["path"] != "unet/model.onnx"]),
     "names the file 'unet/model.onnx', which its files do not list"),
    (lambda m: m["files"].append(dict(m["files"][0])), "lists 'decoder/model.onnx' twice"),
    (lambda m: m["files"].append(dict(m["files"][0], path="manifest.json")), "lists itself"),
])
def test_a_list_that_proves_nothing(bundle, ldmc, change, words):
    manifest = read_manifest_json(bundle)
    change(manifest)
    write_manifest(bundle, manifest)
    done = ldmc("verify", bundle, "--hashes-only")
    assert done.code == 1 and words in done.err
    with pytest.raises(BundleProblem, match=words):
        load(bundle)


def test_hashes_only_says_what_it_found(bundle, ldmc):
    done = ldmc("verify", bundle, "--hashes-only", "--json")
    assert done.code == 0
    assert done.json == {"bundle": "tiny.cpu.ldmc", "ok": True, "files": 4,
                         "manifest_sha256": read_manifest(bundle).sha256}
    assert "manifest sha256:%s" % read_manifest(bundle).sha256 in done.err
    refresh_files(bundle)
    (bundle / "unet" / "model.onnx.data").write_bytes(b"?")
    assert ldmc("verify", bundle, "--hashes-only").code == 5
