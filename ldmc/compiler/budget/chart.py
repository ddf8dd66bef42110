"""Memory over the run, drawn: which operator is the peak, and what is alive then.

    |- - -| budget     |        _   57.8 alive at down_blocks.1.attentions.0/Softmax:
    | ### | weights    |   ____| |___   28.0 ...MatMul
    | ### | libraries  |__|          |______                      one row for each component

SVG bytes are the same for the same plan: no date, no random ids, text as text.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmc.compiler.budget.engines import ComponentPlan
from ldmc.compiler.budget.plan import Plan
from ldmc.errors import LdmcError
from ldmc.runtime.files import write_whole
from ldmc.targets.target import MIB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED_BUFFERS = 4  # of those alive at the peak
_WIDTH_INCHES, _PANEL_INCHES = 9.0, 3.2
_PNG_DPI = 110
# Okabe and Ito's colours: told apart by everyone, and in print.
_COLOURS = {"libraries": "#999999", "weights": "#0072B2", "workspace": "#009E73", "activations": "#E69F00"}
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
        write_whole(file, content)
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
    figure = Figure(figsize=(_WIDTH_INCHES, _PANEL_INCHES * count + 0.9), layout="constrained")
    panels = figure.subplots(count, 2, squeeze=False, width_ratios=[1, 4])
    for (bar, line), component in zip(panels, plan.components):
        _draw_sum(bar, plan, component)
        _draw_activations(line, component)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) or 1, frameon=False)
    figure.suptitle(f"Predicted memory of a run on {plan.target}, MiB")
    return figure


def _draw_sum(panel: Any, plan: Plan, component: ComponentPlan) -> None:
    """What a run of one component consists of, as a bar; the budget as a line."""
    run, floor = component.run, 0.0
    sizes = (run.libraries_bytes, run.weights_bytes, run.workspace_bytes, run.activations_bytes)
    for name, size in zip(_COLOURS, sizes, strict=True):
        panel.bar([0], [size / MIB], bottom=floor, color=_COLOURS[name], label=name, width=0.6)
        floor += size / MIB
    if plan.budget_bytes is not None:
        panel.axhline(plan.budget_bytes / MIB, color=_BUDGET_COLOUR, ls="--", label="budget")
    panel.set_title(f"{component.name}: {run.peak_bytes / MIB:.0f}", loc="left", fontsize=9.5)
    panel.set_xlim(-0.5, 0.5)
    panel.set_xticks([])


def _draw_activations(panel: Any, component: ComponentPlan) -> None:
    """What comes and goes while one component runs once, and what is alive at the peak."""
    timeline = component.timeline
    if not timeline.steps:
        return
    live = [size / MIB for size in timeline.live_bytes]
    colour = _COLOURS["activations"]
    panel.fill_between(range(len(live)), 0, live, color=colour, step="mid", lw=0)
    step = timeline.peak_step
    alive = timeline.alive(step)
    named = [f"{buffer.bytes / MIB:.1f}  {buffer.name}" for buffer in alive[:_NAMED_BUFFERS]]
    rest = sum(buffer.bytes for buffer in alive[_NAMED_BUFFERS:])
    if rest:
        named.append(f"{rest / MIB:.1f}  in {len(alive) - _NAMED_BUFFERS} more")
    is_left = step < len(live) / 2  # the text stands on the other side
    panel.annotate(
        "\n".join([f"{timeline.peak_bytes / MIB:.1f} alive at {timeline.peak_node}:", *named]),
        xy=(step, live[step]),
        xytext=(0.99 if is_left else 0.01, 0.98),
        textcoords="axes fraction",
        ha="right" if is_left else "left",
        va="top",
        multialignment="left",
        fontsize=7,
        arrowprops={"arrowstyle": "-", "lw": 0.6},
    )
    panel.set_title("activations alive while each operator runs, in running order", loc="left", fontsize=9.5)
    panel.set_xlim(0, max(len(live) - 1, 1))
    panel.set_ylim(0, max(live) * 1.75 or 1)
