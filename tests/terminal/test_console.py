"""What comes out of a bundle, a graph or a result reaches the terminal as text, whatever it holds."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress
from rich.table import Table

from ldmc.cli import main
from ldmc.errors import LdmcError
from ldmc.runtime import speech
from ldmc.runtime.errors import BundleProblem
from ldmc.terminal import RichProgress
from ldmc.terminal.text import Terminal

TITLE = "\x1b]0;renamed\x07 \x9b2J \u202etxt.exe"
SPELLED = "\\x1b]0;renamed\\x07 \\x9b2J \\u202etxt.exe"


def test_control_characters_are_spelled_out() -> None:
    assert speech.printable(TITLE) == SPELLED
    assert speech.printable("a\tb\nc \u00fc \U0001f600") == "a\tb\nc \u00fc \U0001f600"
    assert speech.printable("a\rb\ud800") == "a\\x0db\\ud800"


def test_tables_titles_and_lines_are_texts() -> None:
    out = io.StringIO()
    console = Terminal(file=out, width=100)
    table = Table(title=TITLE)
    table.add_column(TITLE)
    table.add_row(TITLE)
    console.print(table)
    console.print(TITLE, markup=False)
    assert out.getvalue().count("\\x1b]0;renamed") == 4  # rich itself leaves out the bell
    assert not set("\x1b\x07\x9b\u202e") & set(out.getvalue())


def test_the_consoles_own_sequences_are_its_own() -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, width=80)
    console.print("[bold]x[/]")
    with Progress(console=console, transient=True) as progress:
        progress.add_task("working", total=1)
    assert "\x1b[1mx\x1b[0m" in out.getvalue() and "\\x1b" not in out.getvalue()


def test_markup_in_a_title_is_text() -> None:
    out = io.StringIO()
    with RichProgress(Terminal(file=out)).stage("[red]x[/] [/] open", None):
        pass
    assert out.getvalue() == "- [red]x[/] [/] open\n"


def test_errors_and_remarks_are_texts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LdmcError(f"no {TITLE}", fix=TITLE)

    monkeypatch.setattr("ldmc.cli.cli.main", fail)
    with pytest.raises(SystemExit):
        main(["inspect"])
    speech.say(TITLE)
    speech.tell(TITLE)
    speech.say(speech.complaint(BundleProblem(TITLE, TITLE)))
    out, err = capsys.readouterr()
    assert (out + err).count(SPELLED) == 6 and "\x1b" not in out + err


def test_a_bundle_is_shown_as_it_is_written(ldmc: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "x.ldmc"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest.update(name="[red]n[/]", target="[/]t")
    manifest["source"].update(model="m\x1b[2J", kind="[k]")
    manifest["requirements"].update(python="[p]", packages={"[/]": TITLE})
    manifest["components"]["unet"]["inputs"][0]["name"] = "[i]nput"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = ldmc("inspect", bundle)
    assert done.code == 0, done.err
    shown = " ".join(done.out.split())
    for words in ("[red]n[/] for [/]t", "m\\x1b[2J ([k])", "python [p], [/] \\x1b]0;renamed", "input [i]nput"):
        assert words in shown
    assert "\x1b" not in done.out
