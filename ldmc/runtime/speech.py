"""What a command says: its result on stdout, all else on stderr, and nothing that a terminal would obey."""

import re
import sys

# Escape sequences move the cursor, rename the window and more; marks of direction show a text as what it is not.
_UNPRINTABLE = re.compile(
    u"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def printable(text):
    """`text` as a terminal may be given it: control characters, but for tabs and ends of lines, are spelled out."""
    return _UNPRINTABLE.sub(_spelled, text)


def _spelled(found):
    code = ord(found.group())
    return "\\x%02x" % code if code < 0x100 else "\\u%04x" % code


def say(text):
    """One line."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def tell(text):
    """One line of the result."""
    sys.stdout.write(printable(text) + "\n")


def complaint(problem):
    """What is said of a BundleProblem: what is wrong, and on a line of its own what to do about it."""
    return printable("error: %s%s" % (problem.message, "\nfix:   %s" % problem.fix if problem.fix else ""))


def counter(word):
    """A counter that overwrites itself on a terminal, called as (done, of); None where stderr is a file or a pipe."""
    if not sys.stderr.isatty():
        return None

    def show(done, total):
        sys.stderr.write("\r%s %d/%d%s" % (word, done, total, "\n" if done == total else ""))
        sys.stderr.flush()

    return show
