"""Whether an ONNX file brings functions of its own along, read without any library.

ldmc's graphs have none. An engine writes them out before it looks at anything else, and a file of 3 KB in which each
calls the next one nine times keeps it at that for ever, in ever more memory.
"""

import io
import os

from ..errors import BundleProblem

MOST_FIELDS = 10000  # at the top level, where a graph, operator sets and remarks are
_FUNCTIONS = 25  # the field of a ModelProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


def refuse_functions(path):
    """Raises BundleProblem where the ONNX file at `path` has functions. What is no ONNX is left to the engine."""
    try:
        with io.open(path, "rb") as stream:
            found = _has_field(stream, os.fstat(stream.fileno()).st_size, _FUNCTIONS)
    except OSError as problem:
        raise BundleProblem("cannot read %s: %s" % (path, problem.strerror or problem), "copy the bundle again whole")
    if found:
        message = "%s has functions of its own, or over %d fields, which no graph of ldmc has" % (path, MOST_FIELDS)
        raise BundleProblem(message, "build the bundle again, or get it from where you trust it")


def _has_field(stream, size, wanted):
    """Whether a message has the field at its top level, or too many to look at; contents are skipped, not read."""
    for _ in range(MOST_FIELDS):
        if stream.tell() >= size:
            return False
        key = _varint(stream)
        if key is None:
            return False
        number, wire = key >> 3, key & 7
        if number == wanted:
            return True
        if wire == _VARINT:
            skipped = 0 if _varint(stream) is not None else None
        elif wire == _BYTES:
            skipped = _varint(stream)
        else:
            skipped = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if skipped is None:
            return False
        stream.seek(skipped, os.SEEK_CUR)
    return True


def _varint(stream):
    """The next number, None where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (ord(byte) & 0x7F) << shift
        if ord(byte) < 0x80:
            return value
    return None
