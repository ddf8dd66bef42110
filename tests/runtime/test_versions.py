"""Version constraints: what fits, by PEP 440 as `packaging` has it; what has no place there; and who asks."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ldmc.runtime.finish.machine import Machine, check_machine
from ldmc.runtime.versions import fits, is_constraint, minor, problem_of, release
from ldmc.targets.reader import load_target

SIGNS = (">=", "<=", "==", "!=", ">", "<")
# few numbers, so that versions and limits often share a release, or the beginning of one
NUMBERS = st.lists(st.sampled_from([0, 1, 2, 3, 8, 10, 30]), min_size=1, max_size=4).map(
    lambda numbers: ".".join(map(str, numbers))
)
SPELLINGS = (
    "", "", "a1", "b", "rc2", "-beta.3", ".dev1", "dev", ".post1", "-1", ".r3", "a0.post1", "rc1.dev2", ".post2.dev3",
    "+cpu", "+cu126.nv23-06", ".dev4+git36449ea", "a0+41361538.nv23.06", ".post1+x",
)  # fmt: skip
VERSIONS = st.builds("{}{}{}".format, st.sampled_from(["", "", "v"]), NUMBERS, st.sampled_from(SPELLINGS))
TERMS = st.builds("{}{}{}".format, st.sampled_from(SIGNS), st.sampled_from(["", " "]), NUMBERS)
CONSTRAINTS = st.lists(TERMS, min_size=1, max_size=3).map(",".join)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(VERSIONS, CONSTRAINTS)
@example("8.2.1.8", "<=8.2")
@example("8.2.1.8", "==8.2")
@example("8.2.1.8", ">8.2")
@example("8.2.1.8", ">=8.2,!=8.2.0")
@example("8.2.0", "==8.2")
@example("10.3.0.30", ">=10.3,<10.4")
@example("2.13.0+cpu", "==2.13")
@example("1.31.1.dev1", ">=1.31.1")
@example("1.31.1.dev1", "<1.31.1")
@example("1.10.0", "<1.9")
def test_it_means_what_packaging_says(version: str, constraint: str) -> None:
    assert is_constraint(constraint)
    # what is installed is what is asked about, pre-release or not
    assert fits(version, constraint) == SpecifierSet(constraint).contains(version, prereleases=True)
    assert release(version) == Version(version).release
    assert minor(version) == "%d.%d" % (*Version(version).release, 0)[:2]


@pytest.mark.parametrize("version", ["8.2-ea", "8.2.1-ga", "8.2_x", "8.2 (JetPack 4.6)"])
def test_of_what_is_no_version_the_numbers_count(version: str) -> None:
    with pytest.raises(InvalidVersion):
        Version(version)
    assert fits(version, ">=8.2,<8.3") and not fits(version, "<8.2")


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("version", ["unknown", "", "?"])
def test_what_has_no_numbers_fits_nothing(version: str, sign: str) -> None:
    assert not fits(version, f"{sign}1")
    assert release(version) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a term is empty"),
        (">=1.2,", "a term is empty"),
        ("1.2", "1.2 has no comparison"),
        ("~=1.2", "~=1.2 has ~=, which is not read"),
        ("===1.2", "===1.2 has ===, which is not read"),
        (">=1,==1.2.*", "==1.2.* has a wildcard, which is not read"),
        (">=", ">= is not one of >= <= == != > < and a version of numbers"),
        ("=>1", "=>1 is not one of"),
        (">=1.x", ">=1.x is not one of"),
        (">=1.2rc1", ">=1.2rc1 is not one of"),
        (">=1.2+cpu", ">=1.2+cpu is not one of"),
        (">=1 <2", ">=1 <2 is not one of"),
        (">=" + "9" * 5000, "is not one of"),  # more digits than Python turns into a number
        (">=٣", ">=٣ is not one of"),
    ],
)
def test_what_is_no_constraint(text: str, words: str) -> None:
    assert not is_constraint(text) and words in problem_of(text)
    with pytest.raises(ValueError, match="no version constraint"):
        fits("1.2", text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(codec="utf-8"), max_size=12), st.text(max_size=12))
def test_any_text_is_answered(version: str, constraint: str) -> None:
    assert isinstance(release(version), tuple)
    if is_constraint(constraint):
        assert fits(version, constraint) in (True, False)
    else:
        assert problem_of(constraint)


@pytest.mark.parametrize("constraint", ["<=8.2", "==8.2", ">8.2", ">=8.2,!=8.2.0", "==8.2.1.8", "!=8.2.1.8"])
def test_a_target_means_on_the_host_what_it_means_on_the_device(tmp_path, constraint: str) -> None:
    """What a target file asks, a board that checks the bundle's manifest answers alike."""
    file = tmp_path / "board.toml"
    file.write_text(f'extends = "jetson-nano"\n[requirements]\ntensorrt = {json.dumps(constraint)}\n')
    wanted = load_target(str(file)).requirements["tensorrt"]
    machine = Machine(str(tmp_path), {"tensorrt": "8.2.1.8", "problems": {}})
    checks = {check.name: check for check in check_machine(machine, {"tensorrt": wanted}, "tensorrt")}
    is_refused = bool(checks["TensorRT"].problem)
    assert is_refused is not SpecifierSet(constraint).contains("8.2.1.8")
