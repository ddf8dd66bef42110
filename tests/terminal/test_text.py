"""Names in files are shown, never obeyed: by the terminal, by rich, by a browser."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from rich.table import Table
from rich.text import Text

from ldmc.runtime.speech import printable
from ldmc.terminal.text import Terminal
from tests.conftest import Outcome
from tests.report import samples

Run = Callable[..., Outcome]
NAME = "a\x1b]0;owned\x07\x1b[31m\x9b\x7f\r\u202eb"
SHOWN = "a\\x1b]0;owned\\x07\\x1b[31m\\x9b\\x7f\\x0d\\u202eb"
MARKED = "[bold red]x[/bold red]:bomb:[/]"


def is_plain(text: str) -> bool:
    """Whether a terminal would only show it. Written without what it checks."""
    return all(c in "\n\t" or (c.isprintable() and not 0x80 <= ord(c) < 0xA0) or c in "\xa0\xad" for c in text)


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, 0x80, 0x9B, 0x9F, 0x200E, 0x2028, 0x202E, 0x2066, 0xD800, 0xFEFF])
def test_every_control_character_is_written_out(code: int) -> None:
    character = chr(code)
    if character in "\n\t":
        assert printable(character) == character
    else:
        assert is_plain(printable(character)) and printable(character).startswith("\\")
    printable(character).encode("utf-8")


def test_text_stays_what_it_is() -> None:
    assert printable("größe 尺寸 😀 → [x] \\x1b\n") == "größe 尺寸 😀 → [x] \\x1b\n"


@pytest.mark.parametrize("width", [40, 200])
def test_nothing_that_is_printed_is_obeyed(width: int) -> None:
    stream = io.StringIO()
    terminal = Terminal(file=stream, width=width)
    table = Table(title="t")
    table.add_column("name")
    table.add_row("\x1b[2J")
    table.add_row(Text("\x1b[2J"))
    for renderable in ("\x1b[2J", Text("\x1b[2J"), table):
        terminal.print(renderable)
    assert is_plain(stream.getvalue()) and stream.getvalue().count("\\x1b[2J") == 4


def test_colours_of_its_own_stay_on_a_terminal() -> None:
    stream = io.StringIO()
    Terminal(file=stream, force_terminal=True, color_system="standard").print("[red]no[/] \x1b[2J")
    assert "\x1b[31mno\x1b[0m" in stream.getvalue() and "\x1b[2J" not in stream.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_shown_and_its_json_exact(as_json: bool, ldmc: Run) -> None:
    done = ldmc("inspect", f"./{NAME}", *(["--json"] if as_json else []))
    assert done.code != 0 and SHOWN in done.err and is_plain(done.err)
    if as_json:
        assert NAME in done.json["error"]["message"]


def test_inspect_shows_names_as_they_are(ldmc: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    manifest.update(name=NAME, target=MARKED, files=[])
    manifest["source"].update(model=MARKED, kind=MARKED)
    manifest["requirements"].update(python=MARKED, packages={MARKED: MARKED})
    unet = manifest["components"].pop("unet")
    manifest["components"][MARKED] = unet
    manifest["pipeline"][MARKED] = MARKED
    unet["inputs"][0].update(name=MARKED, dtype=MARKED)
    unet["parts"] = [{**unet["parts"][0], "name": MARKED, "form": MARKED}] * 2
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    done = ldmc("inspect", tmp_path)
    if done.code:  # a stricter reader refuses such names: then as an error
        assert is_plain(done.err)
        return
    assert is_plain(done.out) and SHOWN in done.out
    shown = " ".join(done.out.split())
    for words in (f"for {MARKED}", f"model {MARKED} ({MARKED})", f"python {MARKED}, {MARKED} {MARKED}"):
        assert words in shown, words


def graph(path: Path, name: str) -> Path:
    values = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [1]) for v in ("x", name)]
    nodes = [helper.make_node(f"Own{name}", ["x"], [name], name=name, domain="own", mode=name)]
    made = helper.make_graph(nodes, "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    path.write_bytes(helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


@pytest.mark.parametrize("form", ["table", "markdown"])
@pytest.mark.parametrize("name", [NAME, MARKED, "a|b`c<script>alert(7)</script>"], ids=["control", "markup", "page"])
def test_diff_shows_names_of_nodes(name: str, form: str, ldmc: Run, tmp_path: Path) -> None:
    done = ldmc("diff", graph(tmp_path / "a.onnx", "y"), graph(tmp_path / "b.onnx", name), "--format", form, "--full")
    assert done.code == 0 and is_plain(done.out)
    if form == "table":
        assert printable(name) in done.out.replace("\n", "")
    else:
        rows = [line for line in done.out.splitlines() if line.startswith("| own::Own")]
        assert rows and all(row.replace("\\|", "").count("|") == 5 and "<script>" not in row for row in rows)


def test_diff_as_json_is_exact(ldmc: Run, tmp_path: Path) -> None:
    done = ldmc("diff", graph(tmp_path / "a.onnx", "y"), graph(tmp_path / "b.onnx", NAME), "--json")
    (diff,) = done.json["components"].values()
    assert [node["out"] for node in diff["nodes"]["added"]] == [[NAME]]


def hostile_result() -> dict[str, Any]:
    found = samples.bench(device=MARKED, interrupted=NAME)
    for level in found["levels"]:
        level.update(name=level["name"] + MARKED, title=NAME, why=level["why"] and MARKED)
    found["power"]["meter"] = NAME
    return found


def test_compare_shows_names_of_levels(ldmc: Run, tmp_path: Path) -> None:
    file = samples.save(hostile_result(), tmp_path / "r.json")
    done = ldmc("compare", file, "--markdown", tmp_path / "t.md")
    assert done.code == 0 and is_plain(done.out) and is_plain((tmp_path / "t.md").read_text())
    assert "[boldred]x[/boldred]:bomb:[/]" in "".join(done.out.split())  # wherever lines were wrapped


def test_a_report_shows_names_and_has_no_element_of_theirs(ldmc: Run, tmp_path: Path) -> None:
    found = hostile_result()
    for level in found["levels"]:
        level["title"] += "<script>alert(7)</script>"
    page = tmp_path / "r.html"
    done = ldmc("report", samples.save(found, tmp_path / "r.json"), "-o", page)
    assert done.code == 0, done.err
    text = page.read_text()
    assert is_plain(text) and SHOWN in text and "<script>alert(7)" not in text
