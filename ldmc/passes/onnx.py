"""`onnx`: trace the module and lower it to an ONNX graph, without its weights.

    def forward(latent, t): ...    ->    graph (float[1,3,64,64] input_0, int64[1] input_1)
                                             => (float[1,3,64,64] output_0) { 3000 nodes }

The module's parameters are fake, so neither `torch.export` nor `torch.onnx.export` ever sees a
weight; each initializer of the graph is a lazy tensor that reads one. Nodes and values are named
after the module they come from (`mid_block.attentions.0.to_q/MatMul`), so that findings can be told
in the model's own terms. From TORCHSCRIPT form PyTorch's older exporter writes the graph
(`script_export.py`), at older opsets, and the same holds.
"""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ldmc.errors import PassError
from ldmc.ir import Component, Form, Network
from ldmc.passes.base import Context, Pass
from ldmc.passes.decompose import spare_decomposition
from ldmc.targets.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

MIN_OPSET, MAX_OPSET = 18, 23
# First and last operator set that is written from each form; the older exporter has no upsampling before 9.
OPSETS = {Form.TORCH: (MIN_OPSET, MAX_OPSET), Form.TORCHSCRIPT: (9, 20)}


@dataclass(frozen=True)
class Onnx(Pass):
    """Export to ONNX.

    opset: operator set version: 18 to 23, or 9 to 20 after `torchscript`.
    """

    opset: int = 18

    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "trace the module and lower it to an ONNX graph; weights stay in the checkpoint"
    requires: ClassVar[tuple[Form, ...]] = (Form.TORCH, Form.TORCHSCRIPT)
    produces: ClassVar[Form] = Form.ONNX
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnxscript", "onnx_ir")

    def __post_init__(self) -> None:
        lowest, highest = min(low for low, _ in OPSETS.values()), max(high for _, high in OPSETS.values())
        if not lowest <= self.opset <= highest:
            raise ValueError(f"opset={self.opset}: the exporters write opset {lowest} to {highest}")

    def refusal(self, form: Form) -> str:
        low, high = OPSETS[form]
        if low <= self.opset <= high:
            return ""
        other = next(f"; from {f} {a} to {b}" for f, (a, b) in OPSETS.items() if f is not form)
        return f"from {form} form the exporter writes opset {low} to {high}, not {self.opset}{other}"

    def objection(self, target: Target) -> str:
        # An older one is not asked of the exporter: the pass `opset` lowers what it wrote.
        if self.opset > target.opset >= MIN_OPSET:
            return f"target {target.name!r} reads opset {target.opset} at most, not {self.opset}"
        return ""

    def run(self, component: Component, context: Context) -> Component:
        traced = component.form is Form.TORCH
        model = (_from_module if traced else _from_script)(component, self.opset)
        graph = model.graph
        if len(graph.inputs) != len(component.inputs) or len(graph.outputs) != len(component.outputs):
            raise PassError(
                f"{component.name}: the exported graph has {len(graph.inputs)} inputs and {len(graph.outputs)} "
                f"outputs, the component has {len(component.inputs)} and {len(component.outputs)}"
            )
        for value, spec in zip(
            [*graph.inputs, *graph.outputs], [*component.inputs, *component.outputs], strict=True
        ):
            value.name = spec.name
        model.ir_version = _oldest_ir_version(self.opset)
        without_sequences(model, component.name)
        return component.evolve(form=Form.ONNX, payload=model)


def _from_module(component: Component, opset: int) -> ir.Model:
    """The graph of a TORCH component."""
    model = _export(component, opset)
    _bind_weights(model.graph, component.payload, component.name)
    _name_after_modules(model.graph, _module_path)
    return model


def _from_script(component: Component, opset: int) -> ir.Model:
    """The graph of a TORCHSCRIPT component."""
    from ldmc.passes import script_export

    with _quiet():
        model = script_export.export(component, opset)
    paths = script_export.module_paths(model.graph, component.payload.network)
    _name_after_modules(model.graph, paths.__getitem__)
    return model


def _export(component: Component, opset: int) -> ir.Model:
    """`torch.export`, then PyTorch's own ONNX exporter, all under the module's fake mode."""
    import torch

    network: Network = component.payload
    with network.mode, torch.no_grad(), _quiet():
        examples = tuple(
            torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in component.inputs
        )
        traced = torch.export.export(network.module, examples, strict=False)
        spare_decomposition(traced)
        # optimize=False: the exporter's optimiser would look into weights that are not there.
        program = torch.onnx.export(traced, dynamo=True, optimize=False, opset_version=opset, verbose=False)
    assert program is not None
    model: ir.Model = program.model
    if model.opset_imports[""] != opset:
        raise PassError(
            f"{component.name}: the exporter wrote opset {model.opset_imports['']}, asked was {opset}",
            fix="leave the opset out",
        )
    return model


def without_sequences(model: ir.Model, component: str) -> None:
    """Write sequences of tensors as plain operators.

    Raises:
        PassError: one is left, which no target reads.
    """
    from ldmc.passes.rewrites import sequences

    sequences.lower(model)
    if left := sequences.remaining(model):
        counted = ", ".join(f"{op} {n}" for op, n in sorted(Counter(node.op_type for node in left).items()))
        raise PassError(
            f"{component}: node {left[0].name} ({left[0].op_type}) works on a sequence of tensors, which targets do "
            f"not read, and its sizes or places are not constants; in all: {counted}",
            fix="write that module without lists of tensors whose length or sides are computed",
        )


def _oldest_ir_version(opset: int) -> int:
    """The file format as old as the opset allows: an engine that reads opset 18 may refuse the exporter's newer one."""
    from onnx.helper import find_min_ir_version_for, make_opsetid

    return find_min_ir_version_for([make_opsetid("", opset)])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No word and no notes: the exporter warns about packages that are not needed here and about its own internals."""
    from torch.fx import config

    logger = logging.getLogger("torch.onnx")
    level, traces = logger.level, config.do_not_emit_stack_traces
    logger.setLevel(logging.ERROR)
    config.do_not_emit_stack_traces = True  # the Python line of every operator: a tenth of tracing, and never read
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        config.do_not_emit_stack_traces = traces


def _bind_weights(graph: ir.Graph, network: Network, component: str) -> None:
    """Replace every fake initializer by a lazy tensor of the checkpoint, and name it by its key."""
    from ldmc.passes.lazy import parameter
    from ldmc.passes.modules import require_all_read

    used = {value for node in graph for value in node.inputs if value is not None}
    stored = network.module.state_dict(keep_vars=True).keys()  # a parameter that two modules share is in it twice
    require_all_read(network.module, [v.name for v in used if v.name is not None and v.is_initializer()], component)
    for name, value in list(graph.initializers.items()):
        if value not in used:
            graph.initializers.pop(name)
            continue
        tensor = value.const_value
        if name not in stored and _is_fake(tensor):
            raise PassError(
                f"{component}: {name} is neither in the checkpoint nor computed by the network",
                fix="build it in the network's forward, or register it as a buffer that is saved",
            )
        if name not in stored:
            continue
        key = name.removeprefix("net.")
        assert tensor is not None
        value.const_value = parameter(network.weights, key, component, tensor.dtype, tensor.shape)
        value.name = key


def _is_fake(tensor: object) -> bool:
    """Whether a tensor of the exporter has no values behind it."""
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(getattr(tensor, "raw", None), FakeTensor)


def _module_path(node: ir.Node) -> str:
    """Where a node comes from, by the notes of the `torch.export`-based exporter."""
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    return scopes[-2].removeprefix("net").removeprefix(".") if len(scopes) > 1 else ""


def _name_after_modules(graph: ir.Graph, module_path: Callable[[ir.Node], str]) -> None:
    """Name nodes and values `module.path/Op`, numbered where one module has several; drop exporter notes."""
    seen: Counter[str] = Counter()
    outputs = set(graph.outputs)
    for node in graph:
        path = module_path(node)
        stem = f"{path}/{node.op_type}" if path else node.op_type
        seen[stem] += 1
        node.name = stem if seen[stem] == 1 else f"{stem}_{seen[stem]}"
        for k, value in enumerate(node.outputs):
            if value not in outputs:
                value.name = node.name if k == 0 else f"{node.name}:{k}"
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.metadata_props.clear()
