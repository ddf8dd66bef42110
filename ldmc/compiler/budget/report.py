"""One request, planned: what `ldmc plan` shows and prints as JSON.

plan_request(ModelRequest(), "fp16,onnx,trt", target)   ->   pipelines as a build would run them, the plan, and what
                                                             the reference project's own recipe would take
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldmc.compiler.budget.graphs import Lowered, lower_request
from ldmc.compiler.budget.plan import Plan
from ldmc.compiler.budget.planner import plan
from ldmc.compiler.budget.recipe import Recipe, multiples, reference_recipes
from ldmc.compiler.frontend import ModelRequest
from ldmc.targets.target import Target


@dataclass(frozen=True)
class PlanReport:
    """plan: of the components as `lowered` says. recipes: how the reference project went about it; () elsewhere."""

    target: Target
    lowered: tuple[Lowered, ...]
    plan: Plan
    recipes: tuple[Recipe, ...]

    @property
    def recipe_basis(self) -> str:
        """What the recipes' figures are made of."""
        return multiples(self.target) if self.recipes else ""

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc plan --json`."""
        return {
            **self.plan.to_json(),
            "pipeline": {lowered.name: lowered.spec for lowered in self.lowered},
            "insertions": [line for lowered in self.lowered for line in lowered.insertions],
            "reference": [recipe.to_json() for recipe in self.recipes],
            "reference_basis": self.recipe_basis,
        }


def plan_request(
    model: ModelRequest, passes: str | None, target: Target, *, strict: bool = False
) -> PlanReport:
    """Lower without weights, and predict.

    strict: plan what was asked for, with nothing put between.

    Raises:
        LdmcError: the model, the passes or the target are not what they must be.
    """
    lowered = lower_request(model, passes, target, strict=strict)
    predicted = plan(
        target,
        {component.name: component.parts for component in lowered},
        {component.name: component.spec for component in lowered},
    )
    recipes = reference_recipes(target, {component.name: [component.whole] for component in lowered})
    return PlanReport(target, lowered, predicted, recipes)
