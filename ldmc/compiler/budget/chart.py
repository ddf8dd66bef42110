"""Memory over the run, drawn: which operator is the peak, and what is alive then.

    MiB |            ___ peak: Softmax of down_blocks.1.attentions.0          one panel per component
        |     ______|   |____        _____
        |____|               |______|     |____
         libraries, weights                          budget -----

SVG bytes are the same for the same plan: no date, no random ids, text as text.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmc.compiler.budget.engines import ComponentPlan
from ldmc.compiler.budget.plan import Plan
from ldmc.errors import LdmcError
from ldmc.targets.target import MIB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED_BUFFERS = 4
_WIDTH_INCHES, _PANEL_INCHES = 9.0, 3.2
_PNG_DPI = 110
# Okabe and Ito's colours: told apart by everyone, and in print.
_COLOURS = {"libraries": "#999999", "weights": "#0072B2", "activations": "#E69F00", "workspace": "#009E73"}
_BUDGET_COLOUR = "#D55E00"


def chart_svg(plan: Plan) -> str:
    """Memory over one run of each component, as the text of an SVG file."""
    return _drawn(plan, "svg").decode("utf-8")


def save_chart(plan: Plan, file: Path) -> None:
    """Draw into `file`, SVG or PNG by its name.

    Raises:
        LdmcError: it cannot be written.
    """
    content = _drawn(plan, file.suffix.lower().lstrip("."))
    try:
        file.write_bytes(content)
    except OSError as error:
        raise LdmcError(f"{file} cannot be written: {error.strerror}", fix="name another file") from error


def _drawn(plan: Plan, form: str) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "ldmc", "svg.fonttype": "none", "font.size": 9.0}):
        figure = _figure(plan)
        FigureCanvasAgg(figure)
        metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(content, format=form, dpi=_PNG_DPI, metadata=metadata)
    return content.getvalue()


def _figure(plan: Plan) -> Figure:
    from matplotlib.figure import Figure

    count = max(len(plan.components), 1)
    figure = Figure(figsize=(_WIDTH_INCHES, _PANEL_INCHES * count + 0.5), layout="constrained")
    panels = figure.subplots(count, 1, squeeze=False)[:, 0]
    for panel, component in zip(panels, plan.components):
        _draw(panel, plan, component)
    figure.suptitle(f"Predicted memory of one run on {plan.target}, component by component")
    return figure


def _draw(panel: Any, plan: Plan, component: ComponentPlan) -> None:
    """One component: what stays for the whole run below, what comes and goes on top."""
    run, timeline = component.run, component.timeline
    steps = range(len(timeline.steps))
    floor = 0.0
    for name, size in (
        ("libraries", run.libraries_bytes),
        ("weights", run.weights_bytes),
        ("workspace", run.workspace_bytes),
    ):
        panel.fill_between([0, max(len(steps) - 1, 1)], floor, floor + size / MIB, color=_COLOURS[name], label=name, lw=0)
        floor += size / MIB
    live = [floor + size / MIB for size in timeline.live_bytes]
    panel.fill_between(list(steps), floor, live, color=_COLOURS["activations"], label="activations", step="mid", lw=0)
    top = max([run.peak_bytes / MIB, *live])
    if plan.budget_bytes is not None and plan.budget_bytes / MIB < 3 * top:
        panel.axhline(plan.budget_bytes / MIB, color=_BUDGET_COLOUR, ls="--", label="budget")
        top = max(top, plan.budget_bytes / MIB)
    if live:
        _annotate(panel, component, live)
    panel.set_title(f"{component.name}: peak {run.peak_bytes / MIB:.0f} MiB", loc="left", fontsize=9.5)
    panel.set_ylabel("MiB")
    panel.set_xlabel("operators, in running order")
    panel.set_xlim(0, max(len(steps) - 1, 1))
    panel.set_ylim(0, top * 1.45)
    panel.legend(loc="upper left", ncols=5, frameon=False)


def _annotate(panel: Any, component: ComponentPlan, live: list[float]) -> None:
    """Name the peak, and the largest tensors that are alive then."""
    timeline = component.timeline
    step = timeline.peak_step
    alive = timeline.alive(step)
    named = [f"{buffer.bytes / MIB:.1f}  {buffer.name}" for buffer in alive[:_NAMED_BUFFERS]]
    rest = sum(buffer.bytes for buffer in alive[_NAMED_BUFFERS:])
    if rest:
        named.append(f"{rest / MIB:.1f}  {len(alive) - _NAMED_BUFFERS} more")
    text = "\n".join([f"peak at {timeline.peak_node}: {timeline.peak_bytes / MIB:.1f} MiB alive", *named])
    left = step < len(live) / 2
    panel.annotate(
        text,
        xy=(step, live[step]),
        xytext=(8 if left else -8, 26),
        textcoords="offset points",
        ha="left" if left else "right",
        va="bottom",
        fontsize=7,
        arrowprops={"arrowstyle": "-", "lw": 0.6},
    )
