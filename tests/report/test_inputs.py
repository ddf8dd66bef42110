"""What a report is made of: told apart by its keys, and refused in one clear sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldmc.errors import BundleError, LdmcError, UsageError
from ldmc.report.inputs import read_inputs
from tests.report import samples


def test_kinds_are_told_apart_by_their_keys(tiny_bundle: Path, tmp_path: Path) -> None:
    build = {"bundle": f"anywhere/{tiny_bundle.name}", "stages": [], "write": {}, "seconds": 3.0}
    files = [
        samples.save(data, tmp_path / f"{index}.json")
        for index, data in enumerate(
            (samples.bench(), samples.verify(), {"stages": samples.verify()["stages"]}, build)
        )
    ]
    found = read_inputs([*files, tiny_bundle])
    assert [result.label for result in found.results] == ["0.json"]
    assert [check.label for check in found.checks] == ["1.json", "2.json"]
    assert found.bundles[0].build == build
    assert [stage["stage"] for stage in found.bundles[0].stages] == ["01-onnx", "02-fold"] * 2
    assert not any("graph" in stage for stage in found.bundles[0].stages)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in samples.bench().items() if name != key}


def with_level(**changes: Any) -> dict[str, Any]:
    return samples.bench(levels=[{**samples.bench()["levels"][0], **changes}])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("{\"kind\": ", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[1]", "holds list where an object is expected"),
        ("{}", "is no result of ldmc: it has no keys"),
        ('{"a": 1}', "is no result of ldmc: it has the keys a"),
        ('{"kind": "other"}', "is of kind 'other', expected 'ldmc-bench'"),
        ('{"error": {"message": "it broke"}}', "holds the error of a command that failed: it broke"),
        (samples.bench(schema_version=2), "schema_version 2; this ldmc reads up to 1"),
        (samples.bench(schema_version=True), "has no schema_version"),
        (samples.bench(levels=[]), "levels is [], expected a list"),
        (without("machine"), "machine is null, expected an object"),
        (samples.bench(levels=[3]), "levels[0] is 3, expected an object"),
        (with_level(title=None), "levels[0].title is null, expected a string"),
        (with_level(status="done"), 'levels[0].status is "done", expected measured or stopped or failed'),
        (with_level(peak_rss_bytes="much"), 'levels[0].peak_rss_bytes is "much", expected a number or null'),
        (with_level(total={"p50_seconds": None}), "levels[0].total.p50_seconds is null"),
        (with_level(absent=["why"]), "levels[0].absent is"),
        ({"ok": True, "components": []}, "components is [], expected an object"),
        ({"stages": [1]}, "stages[0] is 1, expected an object"),
        ({"bundle": "else.ldmc", "stages": [], "write": {}}, "is the build of else.ldmc, which is not in this report"),
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused_in_a_sentence(content: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    text = content if isinstance(content, str) else json.dumps(content)
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as refused:
        read_inputs([file])
    assert said in refused.value.message and "x.json" in refused.value.message
    assert "\n" not in refused.value.message and refused.value.fix


def test_nothing_is_no_report() -> None:
    with pytest.raises(UsageError, match="needs a bundle or a result"):
        read_inputs([])


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone.json does not exist"):
        read_inputs([tmp_path / "gone.json"])


def change(key: str, value: Any) -> Callable[[Path], None]:
    def made(bundle: Path) -> None:
        file = bundle / "manifest.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))

    return made


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda bundle: (bundle / "manifest.json").unlink(), "is no bundle: it has no manifest.json"),
        (lambda bundle: (bundle / "manifest.json").write_text("no"), "is not JSON"),
        (change("schema_version", 99), "schema_version 99"),
        (lambda bundle: (bundle / "reports/unet/02-fold.json").unlink(), "02-fold.json cannot be read"),
        (lambda bundle: (bundle / "reports/unet/02-fold.json").write_text("{"), "02-fold.json is not JSON"),
        (lambda bundle: (bundle / "reports/unet/02-fold.json").write_text("{}"), "lacks the key component"),
        (lambda bundle: (bundle / "reports/memory.json").write_text("[]"), "memory.json: it is [], expected an object"),
    ],
)
def test_a_damaged_bundle_is_refused(
    damage: Callable[[Path], object], said: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "x.ldmc"))
    damage(bundle)
    with pytest.raises(BundleError) as refused:
        read_inputs([bundle])
    assert said in refused.value.message and "\n" not in refused.value.message


def test_errors_come_out_of_the_command_as_one_sentence(ldmc: Any, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("no")
    done = ldmc("report", tmp_path / "x.json", "-o", tmp_path / "report.html", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert ldmc("report").code == 2


def test_an_input_is_never_replaced_by_the_report(tmp_path: Path) -> None:
    from ldmc.report import write_report

    file = samples.save(samples.bench(), tmp_path / "bench.json")
    before = file.read_bytes()
    with pytest.raises(UsageError, match="would be replaced"):
        write_report([file], file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("where", ["gone/report.html", "folder"])
def test_a_report_that_cannot_be_written_leaves_nothing(where: str, tmp_path: Path) -> None:
    from ldmc.report import write_report

    (tmp_path / "folder").mkdir()
    with pytest.raises(LdmcError, match="cannot be written"):
        write_report([samples.bench()], tmp_path / where)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
