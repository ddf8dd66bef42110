"""The blocks of a network, and what each of them gives while the reference runs.

    down_blocks.0                  a level, which holds blocks
    down_blocks.0.resnets.0        a block
    down_blocks.0.downsamplers.0   a block
    conv_in, time_embedding        blocks: what stands beside the levels

Values are written to files as they come, so that none stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

_HOLDERS = frozenset(("down_blocks", "up_blocks", "mid_block", "resnets", "attentions"))


@dataclass
class Recording:
    """What the blocks gave in one call of the network, in the order they were entered.

    files: block -> float32 `.npy`;
    twice: blocks that were called more than once, so that no one value is theirs. entered: all that were called.
    """

    files: dict[str, Path] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)
    entered: list[str] = field(default_factory=list)

    def drop(self) -> None:
        """Delete the files."""
        for file in self.files.values():
            file.unlink()


def blocks_of(net: Any) -> dict[str, Any]:
    """Path -> module of every level and block of `net`, a network of diffusers."""
    found: dict[str, Any] = {}
    _visit(net, "", found)
    return found


def is_level(module: Any) -> bool:
    """Whether `module` is made of blocks."""
    return any(name in _HOLDERS for name, _ in module.named_children())


def _visit(module: Any, path: str, found: dict[str, Any]) -> None:
    for name, child in module.named_children():
        own = f"{path}.{name}" if path else name
        if isinstance(child, torch.nn.ModuleList):
            _visit(child, own, found)
            continue
        found[own] = child
        if is_level(child):
            _visit(child, own, found)


def recorded(net: Any, folder: Path, call: Callable[[], Any]) -> tuple[Any, Recording]:
    """What `call` returns, which calls `net`; and what the blocks of `net` gave, written to `folder`."""
    recording = Recording()
    handles = []
    for path, module in blocks_of(net).items():
        handles.append(module.register_forward_pre_hook(_enter(recording, path)))
        handles.append(module.register_forward_hook(_leave(recording, path, folder)))
    try:
        return call(), recording
    finally:
        for handle in handles:
            handle.remove()


def _enter(recording: Recording, path: str) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        if path in recording.entered:
            recording.twice.add(path)
        else:
            recording.entered.append(path)

    return hook


def _leave(recording: Recording, path: str, folder: Path) -> Callable[..., None]:
    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        tensor = _first_tensor(output)
        if tensor is not None:
            file = folder / f"{path}.npy"
            np.save(file, tensor.detach().numpy())
            recording.files[path] = file

    return hook


def _first_tensor(value: Any) -> Any:
    """The tensor that a block gives, or the first of what it gives; None where there is none."""
    if isinstance(value, torch.Tensor):
        return value
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return next((found for item in items if (found := _first_tensor(item)) is not None), None)
