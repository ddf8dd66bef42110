"""A board of one's own that extends another target: what it says counts, what it does not say is inherited."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmc.errors import UsageError
from ldmc.targets.reader import load_target


def written(file: Path, text: str) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_board_extends_a_target_that_comes_with_ldmc(tmp_path: Path) -> None:
    board = load_target(
        written(
            tmp_path / "my-board.toml",
            """
            extends = "jetson-nano"
            summary = "a Nano with a screen"
            power_modes_w = [10]
            [memory]
            system_mib = 1500
            [memory.libraries_mib]
            cuDNN = 0
            [pipelines]
            decoder = "onnx"
            """,
        )
    )
    nano = load_target("jetson-nano")
    assert (board.name, board.summary) == ("my-board", "a Nano with a screen")
    assert board.power_modes_w == (10.0,)
    assert board.pipelines == {"unet": nano.pipelines["unet"], "decoder": "onnx"}
    assert nano.memory is not None
    assert board.memory is not None
    assert board.memory.total_mib == nano.memory.total_mib
    assert board.memory.libraries_mib == {**nano.memory.libraries_mib, "cuDNN": 0}
    assert board.memory.models_bytes == nano.memory.models_bytes - (1000 - 412) * 2**20
    assert (board.gpu, board.toolchain, board.operators) == (nano.gpu, nano.toolchain, nano.operators)


def test_a_board_that_adds_nothing_is_the_target_under_its_own_name(tmp_path: Path) -> None:
    board = load_target(written(tmp_path / "board.toml", 'extends = "jetson-nano"\n'))
    nano = load_target("jetson-nano")
    assert board.to_json() == {**nano.to_json(), "name": "board"}
    named = load_target(written(tmp_path / "board.toml", 'extends = "jetson-nano"\nname = "b1"\n'))
    assert named.name == "b1"


def test_a_path_is_relative_to_the_file_that_says_it(tmp_path: Path) -> None:
    written(tmp_path / "base" / "nano.toml", 'extends = "jetson-nano"\n[memory]\ntotal_mib = 1958\n')
    board = load_target(written(tmp_path / "mine" / "board.toml", 'extends = "../base/nano.toml"\n'))
    assert board.name == "board"
    assert board.memory is not None
    assert (board.memory.total_mib, board.memory.system_mib) == (1958, 500)


@pytest.mark.parametrize(
    ("files", "first"),
    [
        ({"a.toml": "a.toml"}, "a.toml"),
        ({"a.toml": "b.toml", "b.toml": "a.toml"}, "a.toml"),
        ({"x/a.toml": "../y/b.toml", "y/b.toml": "../x/a.toml"}, "x/a.toml"),
    ],
)
def test_a_file_that_extends_itself(files: dict[str, str], first: str, tmp_path: Path) -> None:
    for name, base in files.items():
        written(tmp_path / name, f'extends = "{base}"\n')
    with pytest.raises(UsageError, match=r"\.toml extends itself") as caught:
        load_target(str(tmp_path / first))
    assert "extends" in caught.value.fix


@pytest.mark.parametrize(
    ("base", "message", "fix"),
    [
        (
            '"jetson-nanoo"',
            "extends = \"jetson-nanoo\": unknown target 'jetson-nanoo'",
            "did you mean 'jetson-nano'?",
        ),
        (
            '"gone.toml"',
            'extends = "gone.toml": there is no target file',
            "targets that come with ldmc: android",
        ),
        ("3", "extends = 3 is not allowed", "it must be a text"),
    ],
)
def test_what_it_extends_must_be_there(base: str, message: str, fix: str, tmp_path: Path) -> None:
    file = written(tmp_path / "board.toml", f"extends = {base}\n")
    with pytest.raises(UsageError) as caught:
        load_target(file)
    assert f"{file}: {message}" in caught.value.message
    assert fix in caught.value.fix


def test_an_error_names_the_file_that_holds_the_key(tmp_path: Path) -> None:
    base = written(tmp_path / "base.toml", 'extends = "jetson-nano"\n[memory]\nsystem_mib = 9000\n')
    board = written(tmp_path / "board.toml", 'extends = "base.toml"\n[memory]\ntotal_mib = 2000\n')
    with pytest.raises(UsageError) as caught:
        load_target(board)
    assert caught.value.message == f"{base}: memory.system_mib = 9000 is not allowed"
    assert caught.value.fix == "it must be less than total_mib, 2000"
    written(tmp_path / "board.toml", 'extends = "base.toml"\n[memory]\nsystem_mib = 8000\n')
    with pytest.raises(UsageError) as caught:
        load_target(board)
    assert caught.value.message == f"{board}: memory.system_mib = 8000 is not allowed"


def test_a_table_over_a_value_is_refused_like_any_wrong_value(tmp_path: Path) -> None:
    file = written(tmp_path / "board.toml", 'extends = "cpu"\n[opset]\nto = 13\n')
    with pytest.raises(UsageError) as caught:
        load_target(file)
    assert caught.value.message == f'{file}: opset = {{"to": 13}} is not allowed'
    assert caught.value.fix == "it must be a whole number"


def test_a_name_from_a_file_that_cannot_be_one(tmp_path: Path) -> None:
    file = written(tmp_path / "my board.toml", 'extends = "cpu"\n')
    with pytest.raises(UsageError) as caught:
        load_target(file)
    assert 'name = "my board" is not allowed' in caught.value.message
