"""What `check` holds a graph to: one file for each kind of rule.

graph.py       the graph as a whole: opset, file format, inputs, constants
operators.py   the target's operator table: operators, types, inputs that must be constant
layers.py      what TensorRT's parser reads wrongly or not at all, operator by operator
"""

from ldmc.passes.rules.base import Rule, View
from ldmc.passes.rules.graph import RULES as _GRAPH
from ldmc.passes.rules.layers import RULES as _LAYERS
from ldmc.passes.rules.operators import RULES as _OPERATORS

RULES: tuple[Rule, ...] = (*_GRAPH, *_OPERATORS, *_LAYERS)

__all__ = ["RULES", "Rule", "View"]
