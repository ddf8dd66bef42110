"""JSON of unknown origin: a regular file of bounded size and depth, without repeated keys, NaN or infinity."""

import contextlib
import hashlib
import json
import math
import re

from ..errors import BundleProblem
from ..files import open_regular

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
    with opened_regular(path, most_bytes, fix) as stream:
        content = stream.read(most_bytes)
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


@contextlib.contextmanager
def opened_regular(path, most_bytes, fix=""):
    """A file, opened to be read; a FIFO or a device, which could block or never end, is rejected unopened.

    Raises: BundleProblem where it is not a regular file, is larger than `most_bytes` or cannot be read.
    """
    try:
        with open_regular(path, most_bytes) as stream:
            yield stream
    except OSError as problem:
        raise BundleProblem("%s cannot be read: %s" % (path, problem.strerror or problem), fix)


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
