"""Bundles that are not what they should be: each problem named with its numbers, an exit code and a fix."""

import os
import subprocess
import sys

import pytest

from ldmc.runtime import BundleProblem, load
from ldmc.runtime.manifest import SCHEMA_VERSION, check_files, read_manifest
from tests.runtime.tiny_bundle import make_bundle, read_manifest_json, refresh_files, write_manifest


def _problem(path, **options):
    with pytest.raises(BundleProblem) as caught:
        load(path, **options).close()
    assert caught.value.fix
    return caught.value


def _edit(bundle, change):
    manifest = read_manifest_json(bundle)
    change(manifest)
    write_manifest(bundle, manifest)


def test_a_manifest_is_read(shared_bundle):
    manifest = read_manifest(shared_bundle)
    assert (manifest.name, manifest.target) == ("tiny", "cpu")
    unet = manifest.components["unet"]
    assert [str(tensor) for tensor in unet.inputs] == ["input_0 float32[1, 3, 8, 8]", "input_1 int64[1]"]
    assert unet.ops["Conv"] == 2
    assert manifest.requirement("numpy") == ">=1.13"
    assert manifest.requirement("torch") == ""
    assert not manifest.placeholder_weights


def test_a_folder_that_does_not_exist(tmp_path):
    assert "nowhere does not exist" in _problem(tmp_path / "nowhere").message


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file, not a bundle folder" in _problem(tmp_path / "file").message


def test_no_manifest(tmp_path):
    problem = _problem(tmp_path)
    assert problem.message == "%s is no bundle: it has no manifest.json" % tmp_path
    assert problem.exit_code == 1


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b"schema_version: 1"])
def test_a_manifest_that_is_not_json(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    assert "manifest.json is not JSON" in _problem(bundle).message


def test_a_manifest_that_is_a_list(bundle):
    (bundle / "manifest.json").write_text("[]")
    assert "holds list where an object is expected" in _problem(bundle).message


def test_a_newer_schema_says_both_numbers(bundle):
    _edit(bundle, lambda manifest: manifest.update(schema_version=7, components="not even the same type"))
    problem = _problem(bundle)
    assert "schema_version 7; this runtime reads up to %d" % SCHEMA_VERSION in problem.message
    assert "upgrade ldmc" in problem.fix
    assert problem.exit_code == 1


@pytest.mark.parametrize("version", [None, "1", 0, True, 1.5])
def test_a_schema_version_that_is_none(bundle, version):
    _edit(bundle, lambda manifest: manifest.update(schema_version=version))
    assert "has no schema_version" in _problem(bundle).message


@pytest.mark.parametrize("key", ["name", "target", "components", "scheduler", "files"])
def test_a_missing_key(bundle, key):
    _edit(bundle, lambda manifest: manifest.pop(key))
    assert "lacks the key %s" % key in _problem(bundle).message


@pytest.mark.parametrize("key", ["form", "parts", "inputs", "outputs"])
def test_a_missing_key_of_a_component(bundle, key):
    _edit(bundle, lambda manifest: manifest["components"]["unet"].pop(key))
    assert "lacks the key components.unet.%s" % key in _problem(bundle).message


@pytest.mark.parametrize("change, words", [
    (lambda m: m.update(files={}), "files is {}, expected a list"),
    (lambda m: m.update(components={"unet": 3}), "components.unet is 3, expected an object"),
    (lambda m: m["files"][0].update(bytes="12"), "files[0].bytes is '12', expected an integer"),
    (lambda m: m["files"][1].pop("sha256"), "lacks the key files[1].sha256"),
    (lambda m: m["components"]["unet"]["inputs"][0].update(shape=["batch", 3, 8, 8]), "unet.inputs[0].shape is"),
    (lambda m: m["components"]["unet"]["inputs"][1].update(shape=[]), "unet.inputs[1].shape is"),
    (lambda m: m["components"].pop("decoder"), "has no component decoder (it has: unet)"),
    (lambda m: m["components"]["unet"]["inputs"].pop(), "expected 2 inputs"),
    (lambda m: m["components"]["decoder"]["inputs"][0].update(shape=[1, 4, 8, 8]), "its decoder takes input_0"),
    (lambda m: m["components"]["unet"]["inputs"][1].update(shape=[2]), "batches of different sizes"),
    (
        lambda m: m["components"]["unet"]["parts"][0].update(form="openvino"),
        "form 'openvino'; this runtime runs aoti, engine, onnx, torchscript",
    ),
    (lambda m: m["components"]["unet"]["parts"][0].update(weights_bytes="9"), "parts[0].weights_bytes is '9'"),
    (lambda m: m["components"]["unet"]["parts"][0].update(compiled=[]), "parts[0].compiled is [], expected an object"),
    (lambda m: m["components"]["unet"]["parts"][0].update(form="aoti"), "lacks the key components.unet.parts[0].compi"),
    (
        lambda m: m["components"]["unet"]["parts"][0].update(
            form="aoti", compiled={"torch": 2, "device": "cpu", "machine": "x86_64", "capability": "AVX2"}),
        "unet.parts[0].compiled.torch is 2, expected a string",
    ),
    (lambda m: m["scheduler"].update(thresholding=True), "thresholding"),
    (lambda m: m["scheduler"].update(num_train_timesteps=10 ** 8), "expected an integer from 1 to 100000"),
    (lambda m: m["scheduler"].update(beta_start="0.1"), "scheduler.beta_start is '0.1', expected a number from 0 to 1"),
    (lambda m: m["scheduler"].update(beta_end=-1), "scheduler.beta_end is -1, expected"),
    (lambda m: m["scheduler"].update(trained_betas=[0.1] * 100001), "trained_betas has 100001 entries"),
    (lambda m: m["scheduler"].update(beta_schedule={"a": []}), "scheduler.beta_schedule is"),
    (lambda m: m["components"]["unet"]["inputs"][0].update(shape=[1, 3, 1 << 20, 1 << 20]), "at most 2147483648 ele"),
    (lambda m: m["components"]["unet"]["inputs"][0].update(shape=[1] * 9), "expected at most 8 axes"),
    (lambda m: m["components"]["unet"]["inputs"][0].update(dtype="object"), "dtype is 'object', expected one of"),
    (lambda m: m["components"]["unet"].update(parts=m["components"]["unet"]["parts"] * 1001), "has 1001 entries"),
    (lambda m: m["components"]["unet"].update(parts=m["components"]["unet"]["parts"] * 2), "lists 'unet' twice"),
    (lambda m: m["components"].update({"x%d" % k: m["components"]["unet"] for k in range(20)}), "has 22 keys"),
    (lambda m: m["components"]["unet"]["parts"][0].update(name="../../x"), "parts[0].name is '../../x', expected let"),
    (lambda m: m["components"]["unet"]["parts"][0].update(file="unet/model.ort"), "a name that ends in .onnx"),
    (lambda m: m["files"][0].update(bytes=-1), "files[0].bytes is -1"),
    (lambda m: m["files"][0].update(sha256="f" * 63), "files[0].sha256 is 'fff"),
    (lambda m: m.update(name="a\x1b[2J"), "name is 'a\\x1b[2J', expected a string without control characters"),
    (lambda m: m.update(load="some-times"), "load is 'some-times', expected one of together, one-at-a-time"),
    (lambda m: m.update(finish=[]), "finish is [], expected an object"),
    (lambda m: m.update(requirements={"packages": {"numpy": 3}}), "packages.numpy is 3, expected a string"),
    (lambda m: m["source"].update(weights=7), "source.weights is 7, expected an object"),
])
def test_a_manifest_that_does_not_fit(bundle, change, words):
    _edit(bundle, change)
    assert words in _problem(bundle).message


@pytest.mark.parametrize("text, words", [
    (lambda text: text.replace('"name": "tiny"', '"name": "other", "name": "tiny"'), "the key 'name' is repeated"),
    (lambda text: text.replace("0.0195", "NaN"), "NaN is not a JSON number"),
    (lambda text: "[" * 10 ** 6, "nested deeper than 64"),
    (lambda text: text + " " * (16 << 20), "at most 16777216 are read"),
])
def test_a_manifest_that_is_not_strict_json(bundle, text, words):
    path = bundle / "manifest.json"
    path.write_text(text(path.read_text()))
    assert words in _problem(bundle).message


def test_a_fifo_in_place_of_the_manifest(bundle):
    (bundle / "manifest.json").unlink()
    os.mkfifo(str(bundle / "manifest.json"))
    command = [sys.executable, "-m", "ldmc", "inspect", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "manifest.json cannot be read: it is a pipe, expected a regular file" in done.stderr


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "unet/../../x", "C:\\x", "a\\..\\..\\x", ""])
def test_a_path_that_leaves_the_bundle(bundle, path):
    _edit(bundle, lambda manifest: manifest["files"][0].update(path=path))
    assert "outside the bundle" in _problem(bundle).message


def test_a_component_file_that_leaves_the_bundle(bundle):
    _edit(bundle, lambda manifest: manifest["components"]["unet"]["parts"][0].update(file="../x.onnx"))
    assert "outside the bundle" in _problem(bundle).message


def test_a_missing_file(bundle):
    (bundle / "unet" / "model.onnx.data").unlink()
    problem = _problem(bundle)
    assert "1 file is not as the manifest says: unet/model.onnx.data is missing" in problem.message
    assert problem.exit_code == 1


def test_a_short_file_says_both_sizes(bundle):
    path = bundle / "unet" / "model.onnx.data"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    problem = _problem(bundle)
    assert "unet/model.onnx.data has %d bytes, expected %d" % (len(content) - 1, len(content)) in problem.message
    assert problem.exit_code == 1
    assert _problem(bundle, verify=True).exit_code == 5


def test_an_altered_file_is_found(bundle):
    path = bundle / "unet" / "model.onnx.data"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(bytes(content))
    for verify in (False, True):  # the size is right
        problem = _problem(bundle, verify=verify)
        assert "unet/model.onnx.data has SHA-256 " in problem.message and ", expected " in problem.message
        assert problem.exit_code == 5


def test_all_problems_come_in_one_message(bundle):
    def add_files(manifest):
        manifest["files"] += [{"path": "gone-%d" % i, "bytes": 1, "sha256": "0" * 64} for i in range(8)]

    _edit(bundle, add_files)
    message = _problem(bundle).message
    assert "8 files are not" in message and message.endswith("and 3 more")


def test_files_are_looked_for_where_asked(shared_bundle, tmp_path):
    manifest = read_manifest(shared_bundle)
    check_files(str(shared_bundle), manifest)
    with pytest.raises(BundleProblem, match="4 files are not"):
        check_files(str(tmp_path), manifest)


def test_unreadable_onnx_names_the_file_and_the_engine(bundle):
    (bundle / "unet" / "model.onnx").write_bytes(b"not a model")
    refresh_files(bundle)
    problem = _problem(bundle)
    assert "cannot load" in problem.message and "model.onnx" in problem.message
    (bundle / "unet" / "model.onnx").write_bytes(b"\x08\x07")  # an ONNX model, with nothing in it
    refresh_files(bundle)
    problem = _problem(bundle)
    assert "ONNX Runtime" in problem.message and "cannot load" in problem.message and "model.onnx" in problem.message
    assert problem.fix == "pip install 'onnxruntime>=1.10'"


def test_placeholder_weights_are_remarked(tmp_path):
    with load(make_bundle(tmp_path / "b", weights="placeholder")) as pipeline:
        assert pipeline.remarks == ["the weights are random placeholders: every picture is noise"]
