"""What a value of a manifest may be: small checkers that are put together like the data they describe.

    Fields({"name": NAME, "bytes": Whole(0, MOST)}, optional={"role": Text()})    an object; other keys are let be
    Items(Whole(1, 8), most=4)                                                    a list

Each has `check(value, place, where)`: `place` is the path of the value (`files[3].bytes`), `where` the manifest's file.
It raises BundleProblem that names both, the value and what is expected.
"""

import re

from ..errors import BundleProblem

REBUILD = "build the bundle again with `ldmc build`, or copy it again whole"
SHOWN_CHARACTERS = 60
MOST_CHARACTERS = 4096


def refuse(value, place, where, words):
    """Raises BundleProblem: `where`: `place` is `value`, expected `words`."""
    shown = repr(value)
    if len(shown) > SHOWN_CHARACTERS:
        shown = shown[:SHOWN_CHARACTERS] + "..."
    raise BundleProblem("%s: %s is %s, expected %s" % (where, place, shown, words), REBUILD)


class Text(object):
    """A string of bounded length, which `pattern` matches whole."""

    def __init__(self, pattern=None, words="a string", most=MOST_CHARACTERS):
        self._pattern = re.compile(pattern + r"\Z") if pattern else None
        self._words = words
        self._most = most

    def check(self, value, place, where):
        """See the module."""
        if not isinstance(value, str):
            refuse(value, place, where, "a string")
        if len(value) > self._most:
            refuse(value, place, where, "at most %d characters, not %d" % (self._most, len(value)))
        if self._pattern is not None and not self._pattern.match(value):
            refuse(value, place, where, self._words)


class OneOf(object):
    """One of some strings."""

    def __init__(self, *names):
        self._names = names

    def check(self, value, place, where):
        """See the module."""
        if not isinstance(value, str) or value not in self._names:
            refuse(value, place, where, "one of %s" % ", ".join(name or "''" for name in self._names))


class Whole(object):
    """An integer of a range."""

    def __init__(self, least, most):
        self._least = least
        self._most = most

    def check(self, value, place, where):
        """See the module."""
        if isinstance(value, bool) or not isinstance(value, int) or not self._least <= value <= self._most:
            refuse(value, place, where, "an integer from %d to %d" % (self._least, self._most))


class Number(object):
    """A number of a range."""

    def __init__(self, least, most):
        self._least = least
        self._most = most

    def check(self, value, place, where):
        """See the module."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self._least <= value <= self._most:
            refuse(value, place, where, "a number from %g to %g" % (self._least, self._most))


class Flag(object):
    """True or false."""

    def check(self, value, place, where):
        """See the module."""
        if not isinstance(value, bool):
            refuse(value, place, where, "true or false")


class Anything(object):
    """Whatever JSON can hold: nothing here reads it."""

    def check(self, value, place, where):
        """See the module."""


class Maybe(object):
    """A kind, or null."""

    def __init__(self, kind):
        self._kind = kind

    def check(self, value, place, where):
        """See the module."""
        if value is not None:
            self._kind.check(value, place, where)


class Items(object):
    """A list of bounded length."""

    def __init__(self, kind, most, least=0):
        self._kind = kind
        self._most = most
        self._least = least

    def check(self, value, place, where):
        """See the module."""
        if not isinstance(value, list):
            refuse(value, place, where, "a list")
        if len(value) < self._least:
            raise BundleProblem("%s: %s is empty" % (where, place), REBUILD)
        if len(value) > self._most:
            raise BundleProblem("%s: %s has %d entries, at most %d are read" % (
                where, place, len(value), self._most), REBUILD)
        for index, item in enumerate(value):
            self._kind.check(item, "%s[%d]" % (place, index), where)


class Table(object):
    """An object whose keys are data: name -> value of one kind."""

    def __init__(self, name, kind, most):
        self._name = name
        self._kind = kind
        self._most = most

    def check(self, value, place, where):
        """See the module."""
        if not isinstance(value, dict):
            refuse(value, place, where, "an object")
        if len(value) > self._most:
            raise BundleProblem("%s: %s has %d keys, at most %d are read" % (
                where, place, len(value), self._most), REBUILD)
        for key in sorted(value):
            self._name.check(key, "a key of %s" % place, where)
            self._kind.check(value[key], "%s.%s" % (place, key), where)


class Fields(object):
    """An object with known keys: `needed` must be there, `optional` may; others have only what `rest` asks of them."""

    def __init__(self, needed, optional=None, rest=None):
        self._needed = needed
        self._optional = optional or {}
        self._rest = rest

    def check(self, value, place, where):
        """See the module."""
        if not isinstance(value, dict):
            refuse(value, place or "the document", where, "an object")
        for key in self._needed:
            if key not in value:
                raise BundleProblem("%s lacks the key %s" % (where, _joined(place, key)), REBUILD)
            self._needed[key].check(value[key], _joined(place, key), where)
        for key in sorted(set(value) - set(self._needed)):
            kind = self._optional.get(key, self._rest)
            if kind is not None:
                kind.check(value[key], _joined(place, key), where)


def _joined(place, key):
    return "%s.%s" % (place, key) if place else key
