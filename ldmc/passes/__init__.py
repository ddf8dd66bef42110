"""The passes. Adding one: a file in this folder and a line in `TABLE`.

The table is lazy, so that listing or parsing passes imports no heavy library until a pass runs.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from ldmc.errors import UsageError

if TYPE_CHECKING:
    from ldmc.passes.base import Pass

TABLE = {
    "fp16": "ldmc.passes.fp16:Fp16",
    "torchscript": "ldmc.passes.torchscript:TorchScript",
    "onnx": "ldmc.passes.onnx:Onnx",
    "fold": "ldmc.passes.fold:Fold",
    "groupnorm": "ldmc.passes.groupnorm:GroupNorm",
    "opset": "ldmc.passes.opset:Opset",
    "check": "ldmc.passes.check:Check",
    "partition": "ldmc.passes.partition:Partition",
    "trt": "ldmc.passes.trt:Trt",
    "embed": "ldmc.passes.embed:Embed",
    "aoti": "ldmc.passes.aoti:Aoti",
}


def pass_class(name: str) -> type[Pass]:
    """The class of pass `name`.

    Raises:
        UsageError: there is no such pass; the message suggests the nearest.
    """
    if name not in TABLE:
        near = difflib.get_close_matches(name, TABLE, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown pass {name!r}", fix=f"{hint}passes are {', '.join(TABLE)}")
    module, _, attribute = TABLE[name].partition(":")
    found: type[Pass] = getattr(importlib.import_module(module), attribute)
    return found
