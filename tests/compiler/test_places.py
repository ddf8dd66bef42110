"""Where a checkpoint lies is no part of a bundle, and is known all the same on the machine that built it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldmc.compiler.frontend import DEFAULT_MODEL, PRESETS, ModelRequest, open_model, read_program
from ldmc.compiler.original import open_original, place_of
from ldmc.compiler.places import last_seen, remember
from ldmc.errors import UsageError
from ldmc.runtime import files
from tests.checkpoints import copy_model
from tests.conftest import Outcome

SOURCE = {"model": "my-ldm", "kind": "folder", "config_sha256": "c" * 64, "weights": {"files": [{"sha256": "a" * 64}]}}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ldmc" / "checkpoints"


def test_a_place_is_kept_by_the_hashes_of_the_checkpoint(cache: Path, tmp_path: Path) -> None:
    assert last_seen(SOURCE) is None
    remember(SOURCE, tmp_path / "here")
    assert last_seen(SOURCE) == tmp_path / "here"
    remember(SOURCE, tmp_path / "there")
    assert last_seen(SOURCE) == tmp_path / "there"
    others = [{**SOURCE, "config_sha256": "d" * 64}, {**SOURCE, "weights": {"files": [{"sha256": "b" * 64}]}}]
    assert [last_seen(other) for other in others] == [None, None]
    assert len(list(cache.iterdir())) == 1


def test_a_copy_that_is_gone_does_not_hide_the_original(cache: Path, tmp_path: Path) -> None:
    for name in ("original", "copy"):
        (tmp_path / name).mkdir()
        remember(SOURCE, tmp_path / name)
    assert last_seen(SOURCE) == tmp_path / "copy"
    (tmp_path / "copy").rmdir()
    assert last_seen(SOURCE) == tmp_path / "original"
    for number in range(20):
        remember(SOURCE, tmp_path / str(number))
    [record] = cache.iterdir()
    assert len(json.loads(record.read_text())["folders"]) == 8


def test_a_relative_folder_is_kept_as_what_it_is(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    remember(SOURCE, Path("x"))
    assert last_seen(SOURCE) == tmp_path / "x"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"folders": 3}', '{"folders": [3]}', '{"folders": ["relative"]}', "\0" * 9]
)
def test_a_record_that_is_none_says_nothing(content: str, cache: Path) -> None:
    remember(SOURCE, Path("/somewhere"))
    [record] = cache.iterdir()
    record.write_text(content)
    assert last_seen(SOURCE) is None


def test_without_the_variable_it_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME")
    remember(SOURCE, Path("/somewhere"))
    assert (tmp_path / ".cache" / "ldmc" / "checkpoints").is_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, the specification says
    assert last_seen(SOURCE) == Path("/somewhere")


def test_presets_and_hub_ids_are_places_themselves(cache: Path) -> None:
    assert place_of({**SOURCE, "kind": "preset", "model": DEFAULT_MODEL}) == DEFAULT_MODEL
    assert place_of({**SOURCE, "kind": "hub", "model": PRESETS[DEFAULT_MODEL]}) == PRESETS[DEFAULT_MODEL]


@pytest.mark.parametrize(("kind", "model"), [("folder", "my-ldm"), ("hub", "/etc"), ("preset", "../x"), ("x", "/")])
def test_a_manifest_names_no_path_that_is_opened(kind: str, model: str, cache: Path) -> None:
    with pytest.raises(UsageError, match="is not known on this machine") as caught:
        place_of({**SOURCE, "kind": kind, "model": model})
    assert "--model" in caught.value.fix


def test_a_checkpoint_that_is_gone_says_where_it_was(cache: Path, tmp_path: Path) -> None:
    remember(SOURCE, tmp_path / "gone")
    with pytest.raises(UsageError, match=f"the checkpoint 'my-ldm', .*, is no longer in {tmp_path}/gone") as caught:
        place_of(SOURCE)
    assert "--model" in caught.value.fix


def source_of(folder: Path) -> Any:
    request = ModelRequest(str(folder))
    return read_program(open_model(request, pytest.fail), request).source


def test_the_same_checkpoint_in_two_folders_of_one_name_is_the_same_source(tiny_model: Path, tmp_path: Path) -> None:
    one, two = (copy_model(tiny_model, tmp_path / parent / "my-ldm") for parent in ("one", "two"))
    assert source_of(one) == source_of(two)
    assert source_of(one)["model"] == "my-ldm"
    assert str(tmp_path) not in json.dumps(source_of(one))


def test_the_same_checkpoint_in_two_folders_gives_the_same_bytes(
    tiny_model: Path, tmp_path: Path, cache: Path, ldmc: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, reports too; and no file says where they were built."""
    contents = []
    for parent in ("one", "two"):
        folder = copy_model(tiny_model, tmp_path / parent / "my-ldm")
        monkeypatch.chdir(folder.parent)
        name = "./my-ldm" if parent == "one" else str(folder)
        done = ldmc("build", "--target", "cpu", "--passes", "onnx", "--model", name, "-o", "x.ldmc", "--no-report")
        assert done.code == 0, done.err
        written = [path for path in (folder.parent / "x.ldmc").rglob("*") if path.is_file()]
        contents.append({path.relative_to(folder.parent): path.read_bytes() for path in written})
    assert contents[0] == contents[1]
    places = [tmp_path, Path.home(), Path(pytest.__file__).parents[1], Path(files.__file__).parents[2]]
    for path, content in contents[0].items():
        assert not any(os.fsencode(place) + b"/" in content for place in places), path
    assert last_seen(json.loads(contents[0][Path("x.ldmc/manifest.json")])["source"]) == tmp_path / "two" / "my-ldm"


def test_a_bundle_finds_its_checkpoint_where_it_was_built(
    tiny_model: Path, tiny_bundle: Path, cache: Path, ldmc: Callable[..., Outcome]
) -> None:
    """And says what to do elsewhere, before it loads anything."""
    done = ldmc("verify", tiny_bundle, "--steps", 1, "--json")
    assert done.code == 2
    assert "is not known on this machine" in done.json["error"]["message"]
    assert "--model" in done.json["error"]["fix"]
    source = json.loads((tiny_bundle / "manifest.json").read_text())["source"]
    remember(source, tiny_model)
    assert open_original(source, None)[0].checkpoint.folder == tiny_model


def test_a_cache_that_cannot_be_written_fails_no_build(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ldmc.compiler import driver

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    request = ModelRequest(str(tiny_model))
    opened = open_model(request, pytest.fail)
    notes: list[str] = []

    class Progress:
        note = staticmethod(notes.append)

    driver._remember_checkpoint(opened, read_program(opened, request), Progress())  # type: ignore[arg-type]
    assert len(notes) == 1 and "verify and bench will need --model" in notes[0]
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
