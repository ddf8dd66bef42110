"""Versions and what is asked of them: `8.2.1.8` fits `>=8.2,<8.3`, and `10.3.0` does not.

A constraint is one or more of `>= <= == != > <`, each with a version of numbers, joined by commas. It means the same to
compiler and device, what PEP 440 says:

    8.2.1.8      comes after 8.2: it fits >8.2 and !=8.2, not <=8.2 or ==8.2
    2.13.0+cpu   equals 2.13, as does 2.13.0
    1.31.1.dev1  comes before 1.31.1, as do alphas, betas and candidates; it fits <=1.31.1, not <1.31.1
    1.31.post1   comes after 1.31; it fits >=1.31, not >1.31
    8.2-ea       is no version of PEP 440: its leading numbers are compared, all else is ignored
    unknown      has no numbers, and fits nothing

Source: https://peps.python.org/pep-0440/
"""

import re

_TERM = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([0-9]{1,9}(?:\.[0-9]{1,9})*)\s*")
_NUMBERS = re.compile(r"\s*v?([0-9]{1,9}(?:\.[0-9]{1,9})*)", re.IGNORECASE)
_SUFFIX = re.compile(
    r"(?P<pre>[-_.]?(?:alpha|beta|preview|pre|a|b|c|rc)[-_.]?[0-9]*)?"
    r"(?P<post>-[0-9]+|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?"
    r"(?P<dev>[-_.]?dev[-_.]?[0-9]*)?"
    r"(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?\s*", re.IGNORECASE)
# What holds of a version that comes before a release, is a pre-release of it, is it, a post-release of it, or after it.
_HOLD = {-2: ("<", "<=", "!="), -1: ("<=", "!="), 0: ("<=", "==", ">="), 1: (">=", "!="), 2: (">", ">=", "!=")}


def problem_of(constraint):
    """Why `constraint` is none, such as `~=8.2 has ~=, which is not read`; "" where it is one."""
    for term in constraint.split(","):
        if _TERM.fullmatch(term) is None:
            return _why_not(term.strip())
    return ""


def is_constraint(text):
    """Whether `text` is a version constraint."""
    return not problem_of(text)


def fits(version, constraint):
    """Whether `version` is one that `constraint` asks for. Raises ValueError for what is no constraint."""
    why = problem_of(constraint)
    if why:
        raise ValueError("%r is no version constraint: %s" % (constraint, why))
    if not release(version):
        return False
    terms = [_TERM.fullmatch(term).groups() for term in constraint.split(",")]
    return all(sign in _HOLD[_place(version, release(limit))] for sign, limit in terms)


def release(version):
    """The leading numbers of a version: (8, 2, 1, 8) of `8.2.1.8`, (2, 13, 0) of `2.13.0+cpu`; () where none lead."""
    found = _NUMBERS.match(version)
    return tuple(int(part) for part in found.group(1).split(".")) if found else ()


def minor(version):
    """Its first two numbers: `2.13` of `2.13.0+cpu`."""
    return "%d.%d" % (release(version) + (0, 0))[:2]


def _place(version, limit):
    """Where `version` stands to the release `limit`: a key of _HOLD."""
    own, other = _without_zeros(release(version)), _without_zeros(limit)
    if own != other:
        return 2 if own > other else -2
    suffix = _SUFFIX.fullmatch(version, _NUMBERS.match(version).end())
    if suffix is None or not (suffix.group("pre") or suffix.group("post") or suffix.group("dev")):
        return 0
    return 1 if suffix.group("post") and not suffix.group("pre") else -1


def _without_zeros(numbers):
    """8.2 and 8.2.0 are one release."""
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    return numbers


def _why_not(term):
    """What is wrong with one term."""
    if not term:
        return "a term is empty"
    if term.startswith(("~=", "===")):
        return "%s has %s, which is not read" % (term, re.match("[~=]+", term).group())
    if "*" in term:
        return "%s has a wildcard, which is not read" % term
    if re.match("[0-9]", term):
        return "%s has no comparison" % term
    return "%s is not one of >= <= == != > < and a version of numbers" % term
