"""Graph diff: every kind of difference, references to bundles and stages, and the three renderings."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from rich.console import Console

from ldmc.compiler.diff import Change, GraphDiff, OpCount, diff_graphs
from ldmc.compiler.diff_render import quantity, to_json, to_markdown, to_table
from ldmc.compiler.graph import summarise
from ldmc.compiler.references import Comparison, compare, resolve
from ldmc.compiler.summary import GraphSummary
from ldmc.errors import BundleError, UsageError
from ldmc.ir import Stats

BASE = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,3,8,8] input_0) => (float[1,4,8,8] output_0) <float[4,3,3,3] w = {ONES}, float[1] half = {0.5}>
{
    c = Conv <pads = [1,1,1,1]> (input_0, w)
    d = Div (c, half)
    output_0 = Sigmoid (d)
}""".replace("ONES", ",".join(["1"] * 108))


def graph_of(text: str = BASE, *replacements: tuple[str, str]) -> GraphSummary:
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return summarise(ir.from_onnx_text(text))


def diff_after(*replacements: tuple[str, str]) -> GraphDiff:
    return diff_graphs(graph_of(), graph_of(BASE, *replacements))


def only_changes(diff: GraphDiff) -> tuple[Change, ...]:
    assert not diff.added
    assert not diff.removed
    assert len(diff.changed) == 1
    return diff.changed[0].changes


def test_equal_graphs() -> None:
    diff = diff_graphs(graph_of(), graph_of())
    assert diff.equal
    assert diff.ops == (OpCount("Conv", 1, 1), OpCount("Div", 1, 1), OpCount("Sigmoid", 1, 1))


def test_weights_compare_by_type_and_not_by_value() -> None:
    assert diff_after(("{0.5}", "{0.25}")).equal


def test_nodes_added_and_removed() -> None:
    diff = diff_after(("d = Div (c, half)", "m = Neg (c)"), ("Sigmoid (d)", "Sigmoid (m)"))
    assert [node.key for node in diff.added] == ["m"]
    assert [node.key for node in diff.removed] == ["d"]
    assert OpCount("Div", 1, 0) in diff.ops
    assert OpCount("Neg", 0, 1) in diff.ops
    assert diff.changed[0].changes == (Change("input 0", "d", "m"),)
    assert not diff.equal


def test_a_changed_operator() -> None:
    diff = diff_after(("Div (c", "Mul (c"))
    assert only_changes(diff) == (Change("op", "Div", "Mul"),)
    assert diff.changed[0].output == "d"


def test_changed_attributes_inputs_and_shapes() -> None:
    diff = diff_after(("pads = [1,1,1,1]", "pads = [1,1,1,1], group = 1"))
    assert only_changes(diff) == (Change("attribute group", "", "1"),)
    assert only_changes(diff_after(("Div (c, half)", "Div (half, c)"))) == (
        Change("input 0", "c", "half"),
        Change("input 1", "half", "c"),
    )
    diff = diff_after(("8,8] output_0", "6,6] output_0"), ("<pads = [1,1,1,1]>", ""))
    assert [change.what for change in diff.changed[0].changes] == ["attribute pads", "type 0"]
    assert diff.changed[0].changes[1] == Change("type 0", "float32[1,4,8,8]", "float32[1,4,6,6]")


def test_what_one_graph_does_not_know_of_a_type_is_no_change() -> None:
    known = graph_of()
    record = json.loads(json.dumps(known.to_json()).replace('"float32[1,4,8,8]"', '"float32[1,?,8,8]"'))
    assert not diff_graphs(known, GraphSummary.from_json(record)).changed


def test_inputs_outputs_versions_and_weights() -> None:
    diff = diff_after(("8,8] input_0", "8,8] latent"), ("(input_0, w)", "(latent, w)"))
    assert diff.io == (Change("input 0", "input_0 float32[1,3,8,8]", "latent float32[1,3,8,8]"),)
    assert diff_after((": 18]>", ": 17]>")).versions == (Change("opset ai.onnx", "18", "17"),)
    assert diff_after(("float[1] half = {0.5}", "double[1] half = {0.5}")).weights == (
        Change("half", "float32[1]", "float64[1]"),
    )


def test_totals_hold_both_columns() -> None:
    totals = {
        total.name: total for total in diff_after(("    d = Div (c, half)\n", ""), ("(d)", "(c)")).totals
    }
    assert (totals["nodes"].a, totals["nodes"].b) == (3, 2)
    assert totals["macs"].a == totals["macs"].b == 4 * 64 * 27
    assert totals["params"].a == 109


# --- references


def write_bundle(folder: Path, stages: dict[str, dict[str, str]]) -> Path:
    """A bundle of reports only: component -> stage name -> ONNX text; "" is a stage without a graph."""
    (folder / "reports").mkdir(parents=True)
    records, components = [], {}
    for component, graphs in stages.items():
        for name, text in graphs.items():
            report = {
                "component": component,
                "pass": name.partition("-")[2],
                "stage": name,
                "form": "onnx" if text else "torch",
                "graph": graph_of(text).to_json() if text else None,
            }
            (folder / f"reports/{name}.json").write_text(json.dumps(report))
            records.append(
                {
                    "component": component,
                    "pass": report["pass"],
                    "status": "done",
                    "report": f"reports/{name}.json",
                }
            )
        tensor = {"name": "input_0", "dtype": "float32", "shape": [1]}
        components[component] = {
            "form": "onnx",
            "parts": [
                {
                    "name": component,
                    "form": "onnx",
                    "file": f"{component}/model.onnx",
                    "inputs": [tensor],
                    "outputs": [tensor],
                }
            ],
            "inputs": [tensor],
            "outputs": [tensor],
        }
    manifest = {
        "schema_version": 2,
        "name": "m",
        "target": "cpu",
        "components": components,
        "scheduler": {},
        "files": [],
    }
    for component in components:
        (folder / component).mkdir(exist_ok=True)
        (folder / component / "model.onnx").write_bytes(b"?")
    (folder / "manifest.json").write_text(json.dumps(manifest | {"stages": records}))
    return listed(folder)


def listed(bundle: Path) -> Path:
    """The same bundle, its manifest made to list its files as they are now."""
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    entries = [
        {
            "path": path.relative_to(bundle).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "files": entries}))
    return bundle


FOLDED = BASE.replace("    d = Div (c, half)\n", "").replace("(d)", "(c)")
DECODER = BASE.replace("8,8]", "16,16]")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    unet = {"01-fp16": "", "02-onnx": BASE, "03-fold": FOLDED}
    return write_bundle(
        tmp_path / "m.cpu.ldmc", {"unet": unet, "decoder": {"04-onnx": DECODER, "05-fold": DECODER}}
    )


@pytest.mark.parametrize(
    ("selector", "nodes"),
    [
        ("", {"unet": 2, "decoder": 3}),
        (":unet", {"unet": 2}),
        (":fold", {"unet": 2, "decoder": 3}),
        (":onnx", {"unet": 3, "decoder": 3}),
        (":03-fold", {"unet": 2}),
        (":3", {"unet": 2}),
        (":02", {"unet": 3}),
        (":unet:onnx", {"unet": 3}),
        (":unet/onnx", {"unet": 3}),
        (":decoder:05-fold", {"decoder": 3}),
    ],
)
def test_references_into_a_bundle(bundle: Path, selector: str, nodes: dict[str, int]) -> None:
    graphs = resolve(f"{bundle}{selector}")
    assert {name: graph.stats.nodes for name, graph in graphs.items()} == nodes


@pytest.mark.parametrize(
    ("selector", "message", "fix"),
    [
        (
            ":folt",
            "no component or stage 'folt'.*stages: unet:01-fp16, unet:02-onnx",
            "did you mean .*:fold?",
        ),
        (":unett", "components: unet, decoder", "did you mean .*:unet"),
        (":unet:04-onnx", "'04-onnx' of unet", "did you mean .*:02-onnx"),
        (":9", "no component or stage '9'", "e.g. .*05-fold"),
        (":unet:fp16", "stage 01-fp16 of unet is in form torch and has no graph", "e.g. .*unet:03-fold"),
    ],
)
def test_what_a_bundle_does_not_have(bundle: Path, selector: str, message: str, fix: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve(f"{bundle}{selector}")
    assert re.search(fix, caught.value.fix)


def test_a_stage_that_ran_twice_must_be_named_in_full(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", {"unet": {"01-onnx": BASE, "02-fold": BASE, "03-fold": FOLDED}})
    with pytest.raises(UsageError, match="2 stages 'fold' of unet: 02-fold, 03-fold"):
        resolve(f"{bundle}:fold")
    assert resolve(f"{bundle}:03-fold")["unet"].stats.nodes == 2


def test_paths_that_do_not_exist_or_are_no_bundle(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(UsageError, match="no such file or bundle") as caught:
        resolve(str(tmp_path / "m.cpu.ldm"))
    assert "did you mean" in caught.value.fix
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is a folder and no bundle"):
        resolve(str(tmp_path / "empty"))
    file = tmp_path / "a.onnx"
    ir.save(ir.from_onnx_text(BASE), file)
    with pytest.raises(UsageError, match="is a file and has no stages"):
        resolve(f"{file}:fold")


def test_damaged_records(bundle: Path) -> None:
    report = bundle / "reports/03-fold.json"
    report.write_text(report.read_text()[:100])
    with pytest.raises(BundleError, match=r"03-fold\.json has 100 bytes"):
        resolve(str(bundle))
    listed(bundle)
    with pytest.raises(BundleError, match=r"03-fold\.json is not JSON"):
        resolve(str(bundle))
    report.write_text(json.dumps({"component": "unet", "pass": "fold", "graph": {"nodes": 3}}))
    listed(bundle)
    with pytest.raises(BundleError, match=r"03-fold\.json cannot be read"):
        resolve(str(bundle))
    (bundle / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="schema_version"):
        resolve(str(bundle))


def test_without_a_graph_in_the_last_report_the_file_is_read(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", {"unet": {"01-onnx": ""}})
    with pytest.raises(UsageError, match="model.onnx: is not an ONNX model"):
        resolve(str(bundle))
    ir.save(ir.from_onnx_text(FOLDED), bundle / "unet/model.onnx")
    listed(bundle)
    assert resolve(str(bundle))["unet"].stats.nodes == 2


# --- pairing


def test_stages_of_one_bundle_pair_by_component(bundle: Path) -> None:
    comparison = compare(f"{bundle}:onnx", f"{bundle}:fold")
    assert list(comparison.diffs) == ["unet", "decoder"]
    assert not comparison.diffs["unet"].equal
    assert comparison.diffs["decoder"].equal
    assert not comparison.equal
    assert compare(str(bundle), f"{bundle}:fold").equal
    assert list(compare(f"{bundle}:unet", str(bundle)).diffs) == ["unet"]


def test_a_component_that_only_one_bundle_has_is_a_difference(bundle: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", {"unet": {"01-fold": FOLDED}, "encoder": {"02-fold": FOLDED}})
    comparison = compare(str(bundle), str(other))
    assert list(comparison.diffs) == ["unet", "decoder", "encoder"]
    assert comparison.diffs["unet"].equal
    assert len(comparison.diffs["decoder"].removed) == 3
    assert not comparison.equal


def test_a_plain_file_pairs_by_its_interface(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    ir.save(ir.from_onnx_text(BASE), file)
    comparison = compare(str(file), f"{bundle}:fold")
    assert list(comparison.diffs) == ["unet"]
    assert [node.key for node in comparison.diffs["unet"].removed] == ["d"]
    assert [node.key for node in compare(str(bundle), str(file)).diffs["unet"].added] == ["d"]
    assert compare(str(file), str(file)).equal
    ir.save(ir.from_onnx_text(BASE.replace("input_0", "sample")), file)
    with pytest.raises(UsageError, match="no component has the inputs and outputs of") as caught:
        compare(str(file), str(bundle))
    assert ":unet" in caught.value.fix
    assert not compare(str(file), f"{bundle}:unet").equal


# --- renderings


def rendered(comparison: Comparison, full: bool = False) -> str:
    console = Console(file=io.StringIO(), width=80)
    to_table(comparison, console, full=full)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def comparison(bundle: Path) -> Comparison:
    return Comparison("a.onnx", "b.onnx", compare(f"{bundle}:unet:onnx", f"{bundle}:unet:fold").diffs)


def test_the_table_fits_80_columns_and_has_no_colour_in_a_pipe(comparison: Comparison) -> None:
    text = rendered(comparison)
    lines = text.splitlines()
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines]
    assert ["Div", "1", "0", "-1"] in rows
    assert ["nodes", "3", "2", "-33.3%"] in rows
    assert ["-", "Div", "d", "float32[1,4,8,8]"] in rows
    assert ["input", "0:", "d", "->", "c"] in rows


def test_long_lists_are_cut_unless_asked_for_in_full() -> None:
    many = "".join(f"n{i} = Neg (c)\n" for i in range(25))
    diff = diff_after(("output_0 = Sig", many + "output_0 = Sig"))
    comparison = Comparison("a", "b", {"": diff})
    assert "... and 5 more" in rendered(comparison)
    assert "n24" not in rendered(comparison)
    assert "n24" in rendered(comparison, full=True)
    assert "- ... and 5 more" in to_markdown(comparison)


def test_a_difference_too_small_for_a_percentage_is_given_itself() -> None:
    a = GraphSummary(stats=Stats(1, {}, 274_000_000, 548_000_000))
    b = GraphSummary(stats=Stats(1, {}, 274_000_028, 547_999_944))
    rows = [line.split() for line in rendered(Comparison("a", "b", {"": diff_graphs(a, b)})).splitlines()]
    assert ["parameters", "274,000,000", "274,000,028", "+28"] in rows
    assert next(row for row in rows if row[:1] == ["weights"])[-2:] == ["-56", "B"]


def test_equal_graphs_say_so_in_one_line() -> None:
    comparison = Comparison("a", "b", {"unet": diff_graphs(graph_of(), graph_of())})
    assert "unet: no difference (nodes 3," in rendered(comparison)
    assert "No difference (nodes 3," in to_markdown(comparison)


def test_markup_in_names_is_shown_as_it_is() -> None:
    diff = diff_graphs(GraphSummary(), graph_of())
    assert "[bold]x.onnx" in rendered(Comparison("[bold]x.onnx", "b", {"": diff}))


def test_json_is_complete_and_serialisable(comparison: Comparison) -> None:
    document: dict[str, Any] = json.loads(json.dumps(to_json(comparison)))
    assert set(document) == {"a", "b", "equal", "components"}
    unet = document["components"]["unet"]
    assert unet["ops"]["Div"] == {"a": 1, "b": 0}
    assert unet["totals"]["nodes"] == {"a": 3, "b": 2}
    assert unet["nodes"]["removed"][0]["out"] == ["d"]
    assert unet["nodes"]["changed"] == [
        {"output": "output_0", "op": "Sigmoid", "changes": [{"what": "input 0", "a": "d", "b": "c"}]}
    ]
    assert unet["equal"] is document["equal"] is False


def test_markdown_has_the_table_of_figure_3(comparison: Comparison) -> None:
    lines = to_markdown(comparison).splitlines()
    assert "| op | A | B | change |" in lines
    assert "| Div | 1 | 0 | -1 |" in lines
    assert "- Sigmoid `output_0`: input 0: `d -> c`" in lines


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (548_600_000, "bytes", "523.2 MiB"),
        (1_096_000_000, "bytes", "1,045.2 MiB"),
        (20 * 2**30, "bytes", "20.0 GiB"),
        (512, "bytes", "512 B"),
        (101_200_031_744, "macs", "101.2 GMAC"),
        (0, "macs", "0 MAC"),
        (1713, "count", "1,713"),
        (None, "bytes", "?"),
    ],
)
def test_quantities(value: int | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text
