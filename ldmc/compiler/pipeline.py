"""Checking a pipeline before any work starts: does each pass take what the one before it gives?

TORCH --fp16--> TORCH --onnx--> ONNX --fold--> ONNX     fits
TORCH --fold--> ?                                       fold takes onnx, not torch: error with a caret
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ldmc.compiler.spec import parse_pipeline
from ldmc.errors import BundleError, SpecError
from ldmc.ir import COMPONENTS, Form
from ldmc.passes import TABLE, pass_class
from ldmc.passes.base import Pass
from ldmc.targets.target import Target

# Forms that each engine of a target can run.
RUNNABLE = {
    "onnxruntime-cpu": (Form.ONNX, Form.PARTS, Form.TORCHSCRIPT, Form.AOTI),
    "tensorrt": (Form.ENGINE, Form.ONNX, Form.PARTS, Form.TORCHSCRIPT, Form.AOTI),
    "tensorrt-rtx": (Form.ENGINE, Form.ONNX, Form.PARTS, Form.TORCHSCRIPT),
}


@dataclass(frozen=True)
class Misfit:
    """The first pass of a list that cannot stand where it does.

    index: its place in the list; the list's length where it is the end that does not fit. message, fix: as an error's.
    """

    index: int
    message: str
    fix: str = ""


def first_misfit(
    steps: Sequence[Pass],
    target: Target | None,
    form: Form = Form.TORCH,
    before: Sequence[Pass] = (),
) -> Misfit | None:
    """Simulate the forms of `steps`, from `form` to one that the target's engine runs; None where all fit.

    The one check of pipelines: of what is asked for, and of what is left to run each time a pass is inserted.

    Args:
        target: None for passes that are held to each other alone.
        before: passes that ran already; they are not checked.
    """
    names = [step.name for step in before]
    for index, step in enumerate(steps):
        if step.name in names:
            return Misfit(index, f"pass {step.name!r} is given twice")
        if form not in step.requires:
            return _misplaced(index, step, form)
        if objection := step.refusal(form) or (step.objection(target) if target is not None else ""):
            return Misfit(index, f"pass {step.name!r}: {objection}")
        if refused := next((name for name in step.excludes if name in names), ""):
            message = f"pass {step.name!r} cannot take what {refused!r} gives"
            return Misfit(index, message, "leave one of them out")
        names.append(step.name)
        form = step.gives(form)
    if target is None or form in RUNNABLE[target.engine]:
        return None
    wanted = " or ".join(str(f) for f in RUNNABLE[target.engine])
    giving = dict.fromkeys(name for f in RUNNABLE[target.engine] for name in _giving(f))
    return Misfit(
        len(steps),
        f"the pipeline ends in {form} form, target {target.name!r} runs {wanted}",
        f"end with a pass that gives {wanted}: {', '.join(giving)}",
    )


def checked_pipeline(text: str, target: Target | None) -> list[Pass]:
    """Parse `text` and check its forms from TORCH to one that the target's engine runs.

    target: None for a pipeline that was recorded in a bundle, whose passes are held to each other alone.

    Raises:
        SpecError: a pass stands where it cannot, is given twice, or the result cannot run on the target.
    """
    placed = parse_pipeline(text)
    steps = [item.pass_ for item in placed]
    misfit = first_misfit(steps, target)
    if misfit is None:
        return steps
    position = placed[misfit.index].position if misfit.index < len(placed) else len(text)
    raise SpecError(misfit.message, text=text, position=position, fix=misfit.fix)


def pipelines_of(passes: str | None, target: Target) -> dict[str, list[Pass]]:
    """Every component's passes, form-checked. passes: one spec for all components, or None for the target's own.

    Raises:
        SpecError: see `checked_pipeline`; of the target's own it says which of its keys is wrong.
    """
    if passes is not None:
        return {name: checked_pipeline(passes, target) for name in COMPONENTS}
    found = {}
    for name in COMPONENTS:
        try:
            found[name] = checked_pipeline(target.pipelines[name], target)
        except SpecError as error:
            message = f"target {target.name!r}: pipelines.{name}: {error.message.splitlines()[0]}"
            raise SpecError(message, text=error.text, position=error.position, fix=error.fix) from error
    return found


def recorded_pipeline(text: str, target: Target | None) -> list[Pass]:
    """The passes that a bundle's manifest records for a component, form-checked as if they were asked for.

    Raises:
        BundleError: no build records such passes.
    """
    try:
        return checked_pipeline(text, target)
    except SpecError as error:
        raise BundleError(
            f"the manifest records the pipeline {text!r}: {error.message.splitlines()[0]}", fix="build the bundle again"
        ) from error


def to_one_graph(steps: list[Pass]) -> list[Pass]:
    """The passes up to the last that gives one ONNX graph: what cuts it or builds an engine of it changes no value.

    Raises:
        BundleError: none gives one.
    """
    forms = list(itertools.accumulate(steps, lambda form, step: step.gives(form), initial=Form.TORCH))[1:]
    if Form.ONNX not in forms:
        names = ",".join(step.name for step in steps)
        raise BundleError(f"the pipeline {names} gives no ONNX graph to look into", fix="build the bundle again")
    return steps[: len(forms) - forms[::-1].index(Form.ONNX)]


def _misplaced(index: int, step: Pass, form: Form) -> Misfit:
    takes = " or ".join(str(f) for f in step.requires)
    before = [name for name in _giving(step.requires[0]) if name != step.name]
    fix = f"put {' or '.join(before)} before it" if before else f"put it before the pass that gives {form}"
    return Misfit(index, f"pass {step.name!r} takes {takes} form and would be given {form}", fix)


def _giving(form: Form) -> list[str]:
    """Passes that turn another form into `form`."""
    return [n for n in TABLE if pass_class(n).produces is form and form not in pass_class(n).requires]
