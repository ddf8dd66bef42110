"""A file is whole or not there, and is read only where it is one."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from ldmc.runtime.files import drop_unfinished, read_regular, replacing, require_regular, write_whole


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


def _pipe(path):
    os.mkfifo(str(path))


def _socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _endless(path):
    path.symlink_to("/dev/zero")


@pytest.fixture
def short_path():
    """A socket's name has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "f"


@pytest.mark.parametrize(("make", "said"), [
    (_pipe, "it is a pipe"), (_socket, "it is a socket"), (_endless, "it is a device"), (Path.mkdir, "it is a folder"),
], ids=["pipe", "socket", "device", "folder"])
@pytest.mark.parametrize("read", [lambda path: read_regular(path, 10), require_regular], ids=["read", "require"])
def test_only_regular_files_are_read(make, said, read, short_path):
    make(short_path)
    with pytest.raises(OSError) as refused:
        read(short_path)
    assert refused.value.strerror == said + ", expected a regular file"


def test_a_file_up_to_its_most_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(path)
    assert read_regular(path, 10) == read_regular(str(tmp_path / "link"), 10) == b"0123456789"
    require_regular(path)
    with pytest.raises(OSError, match="it has 10 bytes, at most 9 are read"):
        read_regular(path, 9)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have(name, tmp_path):
    with pytest.raises(OSError):
        read_regular(str(tmp_path / name), 10)


def test_no_descriptor_is_left_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError):
            read_regular(tmp_path, 10)
        (tmp_path / "a").write_bytes(b"1")
        read_regular(tmp_path / "a", 1)
    assert len(os.listdir("/proc/self/fd")) == before
