"""Checking a pipeline before any work starts: does each pass take what the one before it gives?

TORCH --fp16--> TORCH --onnx--> ONNX --fold--> ONNX     fits
TORCH --fold--> ?                                       fold takes onnx, not torch: error with a caret
"""

from __future__ import annotations

import itertools

from ldmc.compiler.spec import Placed, parse_pipeline
from ldmc.errors import SpecError
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


def checked_pipeline(text: str, target: Target) -> list[Pass]:
    """Parse `text` and check its forms from TORCH to one that the target's engine runs.

    Raises:
        SpecError: a pass stands where it cannot, is given twice, or the result cannot run on the target.
    """
    form = Form.TORCH
    seen: dict[str, Placed] = {}
    placed = parse_pipeline(text)
    for item in placed:
        step = item.pass_
        if step.name in seen:
            raise SpecError(f"pass {step.name!r} is given twice", text=text, position=item.position)
        if form not in step.requires:
            raise _misplaced(item, form, text)
        if objection := step.refusal(form) or step.objection(target):
            raise SpecError(f"pass {step.name!r}: {objection}", text=text, position=item.position)
        for name in step.excludes:
            if name in seen:
                message = f"pass {step.name!r} cannot take what {name!r} gives"
                raise SpecError(message, text=text, position=item.position, fix="leave one of them out")
        seen[step.name] = item
        form = step.gives(form)
    if form not in RUNNABLE[target.engine]:
        runnable = RUNNABLE[target.engine]
        wanted = " or ".join(str(f) for f in runnable)
        giving = dict.fromkeys(name for f in runnable for name in _giving(f))
        raise SpecError(
            f"the pipeline ends in {form} form, target {target.name!r} runs {wanted}",
            text=text,
            position=len(text),
            fix=f"end with a pass that gives {wanted}: {', '.join(giving)}",
        )
    return [item.pass_ for item in placed]


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


def to_one_graph(steps: list[Pass]) -> list[Pass]:
    """The passes up to the last that gives one ONNX graph: what cuts it or builds an engine of it changes no value."""
    forms = list(itertools.accumulate(steps, lambda form, step: step.gives(form), initial=Form.TORCH))[1:]
    return steps[: len(forms) - forms[::-1].index(Form.ONNX)]


def _misplaced(item: Placed, form: Form, text: str) -> SpecError:
    step = item.pass_
    takes = " or ".join(str(f) for f in step.requires)
    before = [name for name in _giving(step.requires[0]) if name != step.name]
    fix = f"put {' or '.join(before)} before it" if before else f"put it before the pass that gives {form}"
    return SpecError(
        f"pass {step.name!r} takes {takes} form and would be given {form}",
        text=text,
        position=item.position,
        fix=fix,
    )


def _giving(form: Form) -> list[str]:
    """Passes that turn another form into `form`."""
    return [n for n in TABLE if pass_class(n).produces is form and form not in pass_class(n).requires]
