"""A file is whole or not there."""

import pytest

from ldmc.runtime.files import drop_unfinished, replacing, write_whole


def test_text_and_bytes_take_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    write_whole(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    write_whole(str(path), b"\x00\n")
    assert path.read_bytes() == b"\x00\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_raises_while_writing_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.engine"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as stream:
        stream.write(b"half")
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "a.json", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_its_place(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a.json", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_process_left_goes(tmp_path):
    for name in ("a.engine", "a.engine.part-4711", "timing.cache.part-1"):
        (tmp_path / name).write_bytes(b"x")
    drop_unfinished(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["a.engine"]
