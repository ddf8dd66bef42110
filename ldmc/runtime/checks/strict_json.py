"""JSON of unknown origin: a regular file of bounded size and depth, without repeated keys, NaN or infinity."""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import stat

from ..errors import BundleProblem

MOST_BYTES = 16 << 20
MOST_DEPTH = 64
MOST_DIGITS = 20  # of an integer: converting a long one takes quadratic time
# Strings are skipped as a whole; an unfinished one is the parser's to refuse.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def read_json(path, most_bytes=MOST_BYTES, fix=""):
    """Reads one JSON document.

    Returns: (data, SHA-256 of the file's bytes).
    Raises: BundleProblem where it is not a regular file, cannot be read, is too large or too deep, or is not JSON.
    """
    content = read_regular_file(path, most_bytes, fix)
    try:
        data = parse_json(content.decode("utf-8"))
    except ValueError as problem:  # UnicodeDecodeError and JSONDecodeError are both ValueErrors
        raise BundleProblem("%s is not JSON: %s" % (path, problem), fix)
    return data, hashlib.sha256(content).hexdigest()


def parse_json(text):
    """The data of a JSON text. Raises ValueError, for depth, repeated keys and numbers that are not finite too."""
    _check_depth(text)
    data = json.loads(text, object_pairs_hook=_without_repeats, parse_float=_finite, parse_int=_short,
                      parse_constant=_refuse_constant)
    if "\\u" in text:
        _check_surrogates(data)
    return data


def read_regular_file(path, most_bytes, fix=""):
    """The bytes of a file of at most `most_bytes`. Raises: BundleProblem, see `opened_regular`."""
    with opened_regular(path, most_bytes, fix) as stream:
        return stream.read(most_bytes)


@contextlib.contextmanager
def opened_regular(path, most_bytes, fix=""):
    """A file, opened to be read; a FIFO or a device, which could block or never end, is rejected unopened.

    Raises: BundleProblem where it is not a regular file, is larger than `most_bytes` or cannot be read.
    """
    try:
        _require_regular(path, os.stat(path), most_bytes, fix)
        # Without waiting for a writer, should a FIFO have taken its place meanwhile.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with io.open(handle, "rb") as stream:
            _require_regular(path, os.fstat(handle), most_bytes, fix)
            yield stream
    except OSError as problem:
        raise BundleProblem("%s cannot be read: %s" % (path, problem.strerror or problem), fix)


def _require_regular(path, status, most_bytes, fix):
    if not stat.S_ISREG(status.st_mode):
        raise BundleProblem("%s is not a regular file" % path, fix)
    if status.st_size > most_bytes:
        message = "%s has %d bytes, more than the %d that are read" % (path, status.st_size, most_bytes)
        raise BundleProblem(message, fix)


def _check_depth(text):
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        mark = match.group()
        if mark in "[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise ValueError("it is nested deeper than %d" % MOST_DEPTH)
        elif mark in "]}":
            depth -= 1


def _without_repeats(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError("the key %.80r is repeated" % next(name for name in names if names.count(name) > 1))
    return found


def _finite(text):
    value = float(text)
    if math.isinf(value):
        raise ValueError("the number %.40s is out of range" % text)
    return value


def _short(text):
    if len(text) > MOST_DIGITS:
        raise ValueError("the number %.40s... has %d digits" % (text, len(text)))
    return int(text)


def _refuse_constant(name):
    raise ValueError("%s is not a JSON number" % name)


def _check_surrogates(data):
    """Half a surrogate pair cannot be encoded again: printing it would fail."""
    left = [data]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value)
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise ValueError("%.80r holds half a surrogate pair" % value)
