"""Which block of a graph departs from PyTorch.

Every block is found in the graph by the module path in its nodes' names: its value is what its nodes make and others
read, of the shape that the module gives. The values cut the graph into pieces, one before each; a piece is run twice:

    on what the graph itself made so far            the error that has come together up to here      snr_db
    on what PyTorch's blocks gave                   the error of this block alone                    local_snr_db

The second tells who is at fault: behind a bad block everything is wrong, but only its own piece is wrong on the
right inputs. As every node that matters is in some piece, none can hide; what a later normalisation undoes exactly is
no error. Rounding alone was seen to leave 84 dB in float32 and 55 dB in float16 at the least, 110 and 68 as a rule.

At any time the nodes of one piece are open, over the weights that they read; values that wait for later pieces are
in files, and mapped. So memory is that of the largest block, whatever the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldmc.compiler.fidelity.calls import Call
from ldmc.compiler.fidelity.figures import Figures, SettledFigures
from ldmc.compiler.fidelity.graph import JoinedGraph, Piece
from ldmc.compiler.fidelity.results import BlockResult

OUTPUT = "output"  # the row of what stands behind the last block
# Least SNR in dB of a block on PyTorch's own inputs, by the narrowest type that its piece computes in.
NEEDED_LOCAL_SNR_DB = {"float32": 70.0, "float16": 45.0}
_NEEDED_OF_LOOKUP_DB = 30.0  # see SettledFigures: codes that are equally near fall either way, in any type


@dataclass(frozen=True)
class _Measured:
    """What one piece gave."""

    snr_db: float
    local_snr_db: float
    max_abs_error: float
    needed_db: float


def compare_blocks(
    component: str, graph: JoinedGraph, calls: Sequence[Call], scratch: Path, advance: Callable[[int], None]
) -> list[BlockResult]:
    """Every block of one component, in the order PyTorch enters them.

    calls: with their recordings. scratch: for values that wait. advance: told of every piece that was run.
    """
    located, reasons = locate(graph, calls)
    owners = {value: path for path, value in located.items()}  # the innermost block, where a level hands on its value
    measured: dict[str, _Measured] = {}
    runs = _Pieces(graph, calls, owners, scratch)
    for value in sorted(owners, key=graph.position):
        measured[value] = runs.run(value)
        advance(1)
    rows = []
    paths = [*calls[0].recording.entered, *((OUTPUT,) if OUTPUT in located else ())]
    for path in paths:
        level = any(other.startswith(f"{path}.") for other in paths)
        if path in reasons:
            rows.append(BlockResult(component, path, level, why=reasons[path]))
            continue
        found = measured[located[path]]
        local = None if level else found.local_snr_db
        needed = None if level else found.needed_db
        rows.append(BlockResult(component, path, level, found.snr_db, local, needed, found.max_abs_error))
    return rows


def locate(graph: JoinedGraph, calls: Sequence[Call]) -> tuple[dict[str, str], dict[str, str]]:
    """Path -> value of the graph, and path -> why there is none, of every block that the reference entered."""
    recording = calls[0].recording
    located: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for path in recording.entered:
        shape = np.load(recording.files[path], mmap_mode="r").shape if path in recording.files else None
        given = graph.given_by(path)
        matching = [value for value in given if graph.shape(value) == shape]
        if path in recording.twice:
            reasons[path] = "PyTorch calls it more than once, so that no one value is its own"
        elif shape is None:
            reasons[path] = "it gives no tensor in PyTorch"
        elif matching:
            located[path] = matching[-1]
        elif given:
            sides = ", ".join(str(side) for side in shape)
            why = "a pass has rewritten it"
            reasons[path] = f"no value of its nodes has the shape [{sides}] it gives in PyTorch: {why}"
        else:
            reasons[path] = "no node of the graph carries its name: a pass has folded it away or merged it with another"
    if graph.outputs[0] not in located.values():
        located[OUTPUT] = graph.outputs[0]
    return located, reasons


class _Pieces:
    """The pieces of a graph as they are run one after the other.

    owners: value -> the block whose it is, of every value that cuts the graph.
    """

    def __init__(
        self, graph: JoinedGraph, calls: Sequence[Call], owners: Mapping[str, str], scratch: Path
    ) -> None:
        self._graph = graph
        self._calls = calls
        self._owners = owners
        self._scratch = scratch
        self._inputs = [dict(zip(graph.inputs, call.inputs, strict=True)) for call in calls]
        self._readers = {value: 0 for value in owners}
        for value in owners:
            for name in graph.piece(value, owners).reads:
                self._readers[name] = self._readers.get(name, 0) + 1

    def run(self, value: str) -> _Measured:
        """Run the piece that makes `value`; those before it have been run."""
        piece = self._graph.piece(value, self._owners)
        session = piece.open()
        whole = Figures()
        looks_up = any(node.op_type in ("ArgMax", "ArgMin") for node in piece.proto.graph.node)
        local = SettledFigures() if looks_up else Figures()
        for number in range(len(self._calls)):
            expected = self._expected(value, number)
            own = self._run(session, piece, self._own, number)
            whole.add(expected, own)
            if self._readers[value]:
                np.save(self._file(value, number), own)
            del own
            local.add(expected, self._run(session, piece, self._given, number))
        self._let_go(piece)
        needed_db = _NEEDED_OF_LOOKUP_DB if looks_up else NEEDED_LOCAL_SNR_DB[self._graph.narrowest(piece)]
        return _Measured(whole.snr_db, local.snr_db, whole.worst, needed_db)

    def _run(self, session: Any, piece: Piece, value: Callable[[str, int], Any], number: int) -> Any:
        inputs = self._inputs[number]
        feeds = {name: inputs[name] if name in inputs else value(name, number) for name in piece.reads}
        return session.run([piece.gives], feeds)[0]

    def _own(self, value: str, number: int) -> Any:
        """What the graph made."""
        return np.load(self._file(value, number), mmap_mode="r")

    def _given(self, value: str, number: int) -> Any:
        """What the reference made, in the graph's type."""
        return self._expected(value, number).astype(self._graph.dtype(value), copy=False)

    def _expected(self, value: str, number: int) -> Any:
        call = self._calls[number]
        if self._owners[value] == OUTPUT:
            return call.output
        return np.load(call.recording.files[self._owners[value]], mmap_mode="r")

    def _file(self, value: str, number: int) -> Path:
        return self._scratch / f"{self._graph.position(value)}-{number}.npy"

    def _let_go(self, piece: Piece) -> None:
        """Drop the values that no later piece reads."""
        for name in piece.reads:
            self._readers[name] -= 1
            if not self._readers[name] and name in self._owners:
                for number in range(len(self._calls)):
                    self._file(name, number).unlink()
