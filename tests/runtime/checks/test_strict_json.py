"""JSON of unknown origin: what Python's own parser would take, or hang or die on, is rejected in one sentence."""

import os
import subprocess
import sys

import pytest

from ldmc.runtime.checks.strict_json import MOST_DEPTH, parse_json, read_json
from ldmc.runtime.errors import BundleProblem


@pytest.mark.parametrize("text, words", [
    ('{"a": 1, "a": 2}', "the key 'a' is repeated"),
    ('{"b": {"a": 1, "\\u0061": 2}}', "the key 'a' is repeated"),
    ('[NaN]', "NaN is not a JSON number"),
    ('[-Infinity]', "-Infinity is not a JSON number"),
    ('[1e999]', "the number 1e999 is out of range"),
    ("[" + "9" * 5000 + "]", "has 5000 digits"),
    ("[" * 100000, "nested deeper than 64"),
    ('{"a":' * 70 + "1" + "}" * 70, "nested deeper than 64"),
    ('["\\ud800"]', "half a surrogate pair"),
    ("[1", "Expecting"),
])
def test_what_is_not_strict_json(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


@pytest.mark.parametrize("text, data", [
    ('{"a": [1, 2.5, null, true, "\\u00e9"]}', {"a": [1, 2.5, None, True, "\u00e9"]}),
    ('["[[[[\\"[[", "{{{{"]', ['[[[["[[', "{{{{"]),
    ("[" * MOST_DEPTH + "]" * MOST_DEPTH, None),
    ('["\\ud83d\\ude00"]', ["\U0001f600"]),
])
def test_what_is(text, data):
    found = parse_json(text)
    assert data is None or found == data


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "large.json"
    path.write_text("[%s]" % (" " * 100))
    with pytest.raises(BundleProblem, match="has 102 bytes, at most 50 are read"):
        read_json(str(path), 50)


def test_a_device_and_a_folder(tmp_path):
    for path in ("/dev/zero", str(tmp_path)):
        with pytest.raises(BundleProblem, match="expected a regular file"):
            read_json(path)


def test_a_fifo_does_not_block(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(str(path))
    script = "import sys\nfrom ldmc.runtime.checks.strict_json import read_json\nread_json(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120)
    assert "fifo cannot be read: it is a pipe, expected a regular file" in done.stderr
