"""A comparison of graphs for eyes, for documents and for tools.

    A  face.cpu.ldmc:onnx
    B  face.cpu.ldmc:fold
    op                 A          B   change
    Add              201        185      -16
    Constant         471          0     -471
    ...
    weights    677.7 MiB  523.2 MiB   -22.8%

The JSON form is complete; the table and the markdown show the first nodes of each list and say how many more
there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, OverflowMethod
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ldmc.compiler.diff import Change, GraphDiff, NodeChange, OpCount, Total
from ldmc.compiler.markdown import cell, code
from ldmc.compiler.references import Comparison
from ldmc.compiler.summary import NodeSummary
from ldmc.runtime.speech import printable

SHOWN_NODES = 20
TOTAL_LABELS = {
    "nodes": "nodes",
    "params": "parameters",
    "bytes": "weights",
    "macs": "MACs",
    "peak_activation_bytes": "peak activation",
}
UNITS = {
    "bytes": ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    "macs": ((10**9, " GMAC"), (10**6, " MMAC"), (10**3, " kMAC"), (1, " MAC")),
}
GIB_FROM = 10 * 2**30  # below this, sizes of weights read best in MiB, which is also what papers give


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, as plain data: `{a, b, equal, components: {NAME: {equal, totals, ops, nodes, ...}}}`."""
    return {
        "a": comparison.a,
        "b": comparison.b,
        "equal": comparison.equal,
        "components": {name: _diff_json(diff) for name, diff in comparison.diffs.items()},
    }


def to_table(comparison: Comparison, console: Console, *, full: bool = False) -> None:
    """Print to `console`; `full` shows every node instead of the first 20 of each list."""
    for label, reference in (("A", comparison.a), ("B", comparison.b)):
        console.print(_plain(f"{label}  {reference}"), soft_wrap=True)
    console.print()
    for name, diff in comparison.diffs.items():
        if diff.equal:
            console.print(_plain(f"{name or 'graph'}: no difference ({_totals_line(diff)})"))
            continue
        console.print(_op_table(name, diff))
        console.print()
        for title, changes in _change_lists(diff):
            _print_changes(console, title, changes, full)
        _print_nodes(console, "nodes added (only in B)", "+", diff.added, full)
        _print_nodes(console, "nodes removed (only in A)", "-", diff.removed, full)
        _print_changed(console, diff.changed, full)


def to_markdown(comparison: Comparison, *, full: bool = False) -> str:
    """A document for a README or a review: one table and the lists per component."""
    lines = [f"A: {code(comparison.a)}  ", f"B: {code(comparison.b)}"]
    for name, diff in comparison.diffs.items():
        lines += ["", f"### {cell(name) or 'graph'}", ""]
        if diff.equal:
            lines.append(f"No difference ({_totals_line(diff)}).")
            continue
        lines += ["| op | A | B | change |", "|---|--:|--:|--:|"]
        lines += ["| " + " | ".join(map(cell, _op_row(count))) + " |" for count in diff.ops]
        lines += [
            "| " + " | ".join(f"**{cell}**" for cell in _total_row(total)) + " |" for total in diff.totals
        ]
        for title, changes in _change_lists(diff):
            lines += _markdown_list(title, [_change_markdown(change) for change in changes], full)
        lines += _markdown_list(
            "nodes added (only in B)", [_node_markdown(node) for node in diff.added], full
        )
        lines += _markdown_list(
            "nodes removed (only in A)", [_node_markdown(node) for node in diff.removed], full
        )
        lines += _markdown_list("nodes changed", [_changed_markdown(node) for node in diff.changed], full)
    return "\n".join(lines) + "\n"


def quantity(value: int | None, unit: str, scale: int | None = None) -> str:
    """`523.2 MiB`, `101.2 GMAC`, `1,713`; `?` where not known.

    unit: `bytes`, `macs` or `count`. scale: the value that chooses the prefix, to show two values alike.
    """
    if value is None:
        return "?"
    if unit == "count":
        return f"{value:,}"
    size = abs(value if scale is None else scale)
    steps = [(factor, name) for factor, name in UNITS[unit] if factor != 2**30 or size >= GIB_FROM]
    factor, name = next(((factor, name) for factor, name in steps if size >= factor), steps[-1])
    return f"{value:,}{name}" if factor == 1 else f"{value / factor:,.1f}{name}"


def _op_row(count: OpCount) -> tuple[str, str, str, str]:
    return count.op, f"{count.a:,}", f"{count.b:,}", _signed(count.b - count.a)


def _total_row(total: Total) -> tuple[str, str, str, str]:
    scale = max(total.a or 0, total.b or 0)
    a, b = quantity(total.a, total.unit, scale), quantity(total.b, total.unit, scale)
    return TOTAL_LABELS[total.name], a, b, _relative(total)


def _signed(difference: int) -> str:
    return f"{difference:+,}" if difference else "0"


def _relative(total: Total) -> str:
    """`-22.8%`; the difference itself (`+28`) where that rounds to 0; `new` where a is 0."""
    a, b = total.a, total.b
    if a is None or b is None:
        return "?" if a != b else ""
    if a == b or not a:
        return "0" if a == b else "new"
    percent = 100 * (b - a) / a
    if abs(percent) < 0.05:
        return f"{'+' if b > a else '-'}{quantity(abs(b - a), total.unit)}"
    return f"{percent:+,.1f}%"


def _totals_line(diff: GraphDiff) -> str:
    return ", ".join(f"{TOTAL_LABELS[t.name]} {quantity(t.a, t.unit)}" for t in diff.totals)


def _change_lists(diff: GraphDiff) -> tuple[tuple[str, tuple[Change, ...]], ...]:
    return ("inputs and outputs", diff.io), ("versions", diff.versions), ("weights", diff.weights)


def _plain(text: str, style: str = "", overflow: OverflowMethod | None = None) -> Text:
    """Text that is shown as it stands: no markup, and control characters written out before rich drops some of them."""
    return Text(printable(text), style, overflow=overflow)


def _op_table(name: str, diff: GraphDiff) -> Table:
    table = Table(
        title=_plain(name) if name else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("op", overflow="fold")
    for heading in ("A", "B", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for count in diff.ops:
        table.add_row(*map(_plain, _op_row(count)), style="dim" if count.a == count.b else "")
    table.add_section()
    for total in diff.totals:
        table.add_row(*_total_row(total), style="bold")
    return table


def _heading(console: Console, title: str, count: int) -> None:
    console.print(_plain(f"{title}: {count:,}", style="bold"))


def _shown(items: Sequence[Any], full: bool) -> Sequence[Any]:
    return items if full else items[:SHOWN_NODES]


def _print_more(console: Console, items: Sequence[Any], full: bool) -> None:
    if len(items) > SHOWN_NODES and not full:
        console.print(f"  ... and {len(items) - SHOWN_NODES:,} more", style="dim", highlight=False)
    console.print()


def _print_changes(console: Console, title: str, changes: Sequence[Change], full: bool) -> None:
    if not changes:
        return
    _heading(console, f"{title} changed", len(changes))
    for change in _shown(changes, full):
        console.print(Padding(_plain(_change_text(change), overflow="fold"), (0, 0, 0, 2), expand=False))
    _print_more(console, changes, full)


def _print_nodes(console: Console, title: str, sign: str, nodes: Sequence[NodeSummary], full: bool) -> None:
    if not nodes:
        return
    _heading(console, title, len(nodes))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    for _ in range(2):
        grid.add_column(overflow="fold")
    for node in _shown(nodes, full):
        grid.add_row(_plain(f"  {sign} {node.op}"), _plain(node.key), _plain(_types(node)))
    console.print(grid)
    _print_more(console, nodes, full)


def _print_changed(console: Console, nodes: Sequence[NodeChange], full: bool) -> None:
    if not nodes:
        return
    _heading(console, "nodes changed", len(nodes))
    for node in _shown(nodes, full):
        console.print(_plain(f"  ~ {node.op}  {node.output}"), soft_wrap=True)
        for change in node.changes:
            console.print(Padding(_plain(_change_text(change), overflow="fold"), (0, 0, 0, 6), expand=False))
    _print_more(console, nodes, full)


def _types(node: NodeSummary) -> str:
    return ", ".join(str(kind) for kind in node.types)


def _change_text(change: Change) -> str:
    if not change.a:
        return f"{change.what}: added {change.b}"
    return f"{change.what}: {change.a} -> {change.b}" if change.b else f"{change.what}: removed {change.a}"


def _change_markdown(change: Change) -> str:
    what, _, rest = _change_text(change).partition(": ")
    return f"{cell(what)}: {code(rest)}"


def _node_markdown(node: NodeSummary) -> str:
    return f"{cell(node.op)} {code(node.key)} {cell(_types(node))}"


def _changed_markdown(node: NodeChange) -> str:
    return f"{cell(node.op)} {code(node.output)}: {'; '.join(_change_markdown(change) for change in node.changes)}"


def _markdown_list(title: str, items: Sequence[str], full: bool) -> Iterator[str]:
    if not items:
        return
    yield from ("", f"**{title}: {len(items):,}**", "")
    yield from (f"- {item}" for item in _shown(items, full))
    if len(items) > SHOWN_NODES and not full:
        yield f"- ... and {len(items) - SHOWN_NODES:,} more"


def _diff_json(diff: GraphDiff) -> dict[str, Any]:
    return {
        "equal": diff.equal,
        "totals": {total.name: {"a": total.a, "b": total.b} for total in diff.totals},
        "ops": {count.op: {"a": count.a, "b": count.b} for count in diff.ops},
        "nodes": {
            "added": [node.to_json() for node in diff.added],
            "removed": [node.to_json() for node in diff.removed],
            "changed": [
                {
                    "output": node.output,
                    "op": node.op,
                    "changes": [change._asdict() for change in node.changes],
                }
                for node in diff.changed
            ],
        },
        "io": [change._asdict() for change in diff.io],
        "versions": [change._asdict() for change in diff.versions],
        "weights": [change._asdict() for change in diff.weights],
    }
