"""Outputs of a finished bundle against the reference tensors it carries; runs in a child process.

    reference/unet.npz    in_0 [calls, 1, 3, 64, 64]  in_1 [calls, 1]  out_0 [calls, 1, 3, 64, 64]
"""

import json
import time

import numpy as np

from .. import backends
from ..component import Component
from ..manifest import read_manifest

MOST_DB = 200.0  # of equal arrays, whose ratio has no end


def compare(root, name):
    """Runs component `name` of the bundle on its reference inputs.

    Returns: dict of `snr_db` (of the worst call; -inf becomes -200), `calls`, `seconds`, `remarks`.
    """
    manifest = read_manifest(root)
    entry = manifest.components[name]
    remarks = []
    start = time.perf_counter()
    engine = backends.open_component(manifest, entry, backends.OpenOptions(cache=False), remarks)
    component = Component(entry, engine)
    try:
        with np.load(manifest.file_path(manifest.finish["reference"][name])) as stored:
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
    """`ROOT NAME RESULT`: writes what `compare` finds to the file RESULT."""
    root, name, result = arguments
    found = compare(root, name)
    with open(result, "w") as stream:
        json.dump(found, stream)
    return 0
