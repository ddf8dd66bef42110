"""Outputs of a finished bundle against the reference tensors it carries; runs in a child process.

    reference/unet.npz    in_0 [calls, 1, 3, 64, 64]  in_1 [calls, 1]  out_0 [calls, 1, 3, 64, 64]
"""

import json
import time

import numpy as np

from .. import backends
from ..checks.opening import Vouched
from ..component import Component
from ..manifest import read_manifest

MOST_DB = 200.0  # of equal arrays, whose ratio has no end


def compare(root, name, trust=False):
    """Runs component `name` of the bundle on its reference inputs. trust: see `loader.load`.

    Returns: dict of `snr_db` (of the worst call; -inf becomes -200), `calls`, `seconds`, `remarks`.
    """
    manifest = read_manifest(root)
    entry = manifest.components[name]
    remarks = []
    start = time.perf_counter()
    options = backends.OpenOptions(cache=False, vouched=Vouched(manifest, trust))
    engine = backends.open_component(manifest, entry, options, remarks)
    component = Component(entry, engine)
    try:
        # Not allowing pickles is the default only from numpy 1.16.3 on, and a Jetson has 1.13.
        with np.load(manifest.listed_path(manifest.finish["reference"][name]), allow_pickle=False) as stored:
            inputs = [stored["in_%d" % index] for index in range(len(entry.inputs))]
            expected = stored["out_0"]
        found = [snr_db(expected[call], component.run([array[call] for array in inputs]))
                 for call in range(len(expected))]
    finally:
        component.close()
    return {"snr_db": min(found), "calls": len(found), "seconds": time.perf_counter() - start, "remarks": remarks}


def snr_db(expected, found):
    """Signal to noise of `found` against `expected`, in dB: 10 log10(sum(expected^2) / sum((expected - found)^2))."""
    expected = np.asarray(expected, np.float64)
    noise = float(np.square(expected - np.asarray(found, np.float64)).sum())
    signal = float(np.square(expected).sum())
    if noise == 0:
        return MOST_DB
    if not np.isfinite(noise) or signal == 0:
        return -MOST_DB
    return float(min(max(10 * np.log10(signal / noise), -MOST_DB), MOST_DB))


def main(arguments):
    """`ROOT NAME RESULT [--trust]`: writes what `compare` finds to the file RESULT."""
    root, name, result = arguments[:3]
    found = compare(root, name, "--trust" in arguments[3:])
    with open(result, "w") as stream:
        json.dump(found, stream)
    return 0
