"""SHA-256 at the first load, and at later ones of what has changed; and what is made of a saved graph nobody vouches
for."""

import json
import os
import shutil
import time

import numpy as np
import pytest

from ldmc.runtime import BundleProblem, load
from ldmc.runtime.checks import hash_record
from tests.runtime.tiny_bundle import make_bundle

WEIGHTS = "unet/model.onnx.data"


@pytest.fixture
def cache(tmp_path):
    """A user's cache folder of this test's own."""
    return tmp_path / "user" / "ldmc"


@pytest.fixture
def aged(bundle):
    """The bundle, old enough for its hashes to be recorded."""
    for path in bundle.rglob("*"):
        os.utime(str(path), ns=(10 ** 18 + 1, 10 ** 18 + 1))
    time.sleep(2 * hash_record.YOUNG_SECONDS)  # the time of its last change cannot be set
    return bundle


def _draw(bundle, **options):
    with load(bundle, **options) as pipeline:
        return pipeline.generate(seed=1, steps=2), pipeline.remarks


def _flip(path, keep_times=False):
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(bytes(content))
    if keep_times:
        os.utime(str(path), ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def hashed(monkeypatch):
    """The files that are hashed from here on, by name."""
    names = []
    real = hash_record.sha256_of_file

    def record(path):
        names.append(os.path.basename(os.path.dirname(path)) + "/" + os.path.basename(path))
        return real(path)

    monkeypatch.setattr(hash_record, "sha256_of_file", record)
    return names


def test_files_are_read_once(aged, cache, hashed):
    _draw(aged, cache_folder=cache, cache=False)
    assert sorted(hashed) == ["decoder/model.onnx", "decoder/model.onnx.data", "unet/model.onnx", WEIGHTS]
    del hashed[:]
    _draw(aged, cache_folder=cache, cache=False)
    assert hashed == []
    _draw(aged, cache_folder=cache, cache=False, verify=True)
    assert sorted(hashed) == ["decoder/model.onnx", "decoder/model.onnx.data", "unet/model.onnx", WEIGHTS]


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_flipped_byte_is_found_at_the_first_load_and_at_later_ones(aged, cache, keep_times):
    _draw(aged, cache_folder=cache)
    _flip(aged / WEIGHTS, keep_times)
    for folder in (cache, cache.parent / "other"):
        with pytest.raises(BundleProblem, match="1 file is not as .*: unet/model.onnx.data has SHA-256 ") as caught:
            _draw(aged, cache_folder=folder)
        assert caught.value.exit_code == 5


def test_a_file_that_was_just_written_is_read_again(bundle, cache, hashed, monkeypatch):
    monkeypatch.setattr(hash_record, "YOUNG_SECONDS", 3600)
    for _ in range(2):
        del hashed[:]
        _draw(bundle, cache_folder=cache, cache=False)
        assert WEIGHTS in hashed


def test_the_record_is_of_one_place_and_outside_the_bundle(aged, cache, tmp_path, hashed):
    _draw(aged, cache_folder=cache, cache=False)
    other = shutil.copytree(aged, tmp_path / "copy.ldmc")
    _flip(other / WEIGHTS)
    with pytest.raises(BundleProblem, match="has SHA-256"):
        _draw(other, cache_folder=cache)
    assert len(list((cache / "hashes").iterdir())) >= 1
    assert {path.name for path in aged.iterdir()} == {"manifest.json", "unet", "decoder"}


@pytest.mark.parametrize("damage", [b"", b"[1]", b"{", b'{"unet/model.onnx.data": 3}',
                                    b'{"unet/model.onnx.data": {"identity": 0, "sha256": [], "external": "x"}}'])
def test_a_damaged_record_is_none(aged, cache, damage, hashed):
    _draw(aged, cache_folder=cache, cache=False)
    for path in (cache / "hashes").iterdir():
        path.write_bytes(damage)
    del hashed[:]
    _draw(aged, cache_folder=cache, cache=False)
    assert WEIGHTS in hashed


def test_without_a_cache_folder_every_load_reads_and_says_so(aged, tmp_path, hashed):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    for folder, why in ((in_the_way / "ldmc", "Not a directory"), (aged / "unet", "is in the bundle")):
        del hashed[:]
        _, remarks = _draw(aged, cache_folder=folder)
        assert WEIGHTS in hashed
        assert len(remarks) == 1 and "no hash and no optimised graph can be kept" in remarks[0] and why in remarks[0]
    assert [path for path in (aged / "unet").iterdir() if path.is_dir()] == []


def test_a_cache_folder_that_others_can_write_is_not_used(aged, cache):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert "can be written by other users" in _draw(aged, cache_folder=cache)[1][0]


def _forge(bundle, tmp_path, cache):
    """Puts another model's optimised graph in the place of the bundle's, with everything in the bundle to vouch for it.
    Returns what the bundle draws."""
    expected, _ = _draw(bundle, cache_folder=cache)
    other = make_bundle(tmp_path / "other.cpu.ldmc", unet_scale=-3.0)
    forged, _ = _draw(other, cache_folder=cache)
    assert not np.array_equal(expected, forged)
    [own] = (bundle / "unet").glob("optimized-*")
    [foreign] = (other / "unet").glob("optimized-*")
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copy(str(foreign / name), str(own / name))
    return expected


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("same_user", [False, True])
def test_a_forged_optimised_graph_does_not_draw(bundle, cache, tmp_path, verify, same_user):
    expected = _forge(bundle, tmp_path, cache)
    folder = cache if same_user else tmp_path / "another" / "ldmc"
    image, remarks = _draw(bundle, cache_folder=folder, verify=verify)
    assert remarks == []
    np.testing.assert_array_equal(image, expected)


def test_a_saved_graph_in_a_bundle_from_elsewhere_is_made_again(bundle, cache, tmp_path):
    _draw(bundle, cache_folder=cache)
    [own] = (bundle / "unet").glob("optimized-*")
    before = (own / "model.onnx").stat().st_ino
    _draw(bundle, cache_folder=cache)
    assert (own / "model.onnx").stat().st_ino == before
    _draw(bundle, cache_folder=tmp_path / "another" / "ldmc")
    assert (own / "model.onnx").stat().st_ino != before


def test_a_link_in_place_of_the_saved_graph_is_not_followed(bundle, cache, tmp_path):
    expected, _ = _draw(bundle, cache_folder=cache)
    [own] = (bundle / "unet").glob("optimized-*")
    moved = shutil.move(str(own), str(tmp_path / "elsewhere"))
    own.symlink_to(moved)
    image, _ = _draw(bundle, cache_folder=cache)
    np.testing.assert_array_equal(image, expected)


def test_the_record_names_what_it_is_of(aged, cache):
    _draw(aged, cache_folder=cache, cache=False)
    [path] = (cache / "hashes").iterdir()
    found = json.loads(path.read_text())
    assert found["unet/model.onnx"]["external"] == ["model.onnx.data"]
    assert sorted(found[WEIGHTS]) == ["identity", "sha256"]
    assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
