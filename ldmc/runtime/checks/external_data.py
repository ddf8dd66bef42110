"""Where an ONNX graph has its weights: every `location` it names, read from the file's bytes without the onnx package.

An engine opens what a graph names, wherever that is; so it is read here first. Only the fields on the way to a tensor
are looked at, whatever is between them is stepped over.
Source: onnx/onnx.proto of github.com/onnx/onnx; https://protobuf.dev/programming-guides/encoding/
"""

import mmap

from ..errors import BundleProblem
from .kinds import REBUILD
from .strict_json import opened_regular

MOST_BYTES = 1 << 31  # protobuf's own limit
MOST_DEPTH = 200  # messages in messages: graphs in nodes in graphs
MOST_FIELDS = 5000000  # a UNet of 330 million parameters has 60,000

# Message -> field -> the message it holds, on all ways to a tensor.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
_KEY, _VALUE = 1, 2


def external_locations(path):
    """The locations that the ONNX file at `path` names, as they stand there: sorted, each once.

    Raises: BundleProblem where it is not an ONNX file.
    """
    try:
        with opened_regular(path, MOST_BYTES, REBUILD) as stream:
            # Mapped, not read: a graph may hold its weights itself.
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Walk(content).locations()
    except (ValueError, IndexError) as problem:
        reason = "it is cut off" if isinstance(problem, IndexError) else problem
        raise BundleProblem("cannot load %s: it is not an ONNX graph: %s" % (path, reason), REBUILD)


class _Walk(object):
    """One walk over a model's messages. Raises ValueError or IndexError where it is not one."""

    def __init__(self, content):
        self._content = content
        self._fields_left = MOST_FIELDS

    def locations(self):
        """All locations, sorted, each once."""
        found = set()
        left = [("model", 0, len(self._content), 0)]
        while left:
            name, start, stop, depth = left.pop()
            if name == "entry":
                found.update(self._location(start, stop))
                continue
            wanted = _MESSAGES[name]
            for field, begin, end in self._fields(start, stop):
                if field in wanted:
                    if depth == MOST_DEPTH:
                        raise ValueError("it is nested deeper than %d" % MOST_DEPTH)
                    left.append((wanted[field], begin, end, depth + 1))
        return sorted(found)

    def _location(self, start, stop):
        """The value of an entry whose key is `location`, as a list."""
        texts = {field: self._content[begin:end] for field, begin, end in self._fields(start, stop)}
        return [texts.get(_VALUE, b"").decode("utf-8")] if texts.get(_KEY) == b"location" else []

    def _fields(self, start, stop):
        """(number, start, stop) of the fields of a message that hold bytes; others are stepped over."""
        at = start
        while at < stop:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise ValueError("it has more than %d fields" % MOST_FIELDS)
            tag, at = self._varint(at)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise ValueError("it has a field 0")
            if kind == 2:
                size, at = self._varint(at)
                if at + size > stop:
                    raise ValueError("it is cut off")
                yield number, at, at + size
                at += size
            elif kind == 0:
                _, at = self._varint(at)
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                raise ValueError("it has a field of wire type %d" % kind)
        if at > stop:
            raise ValueError("it is cut off")

    def _varint(self, at):
        value = shift = 0
        while True:
            byte = self._content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
            if shift > 63:
                raise ValueError("it has a number of more than 64 bits")
