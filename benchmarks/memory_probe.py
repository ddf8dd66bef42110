"""What one component of a bundle, or the whole picture, takes: measured in this process, which must be fresh.

    python benchmarks/memory_probe.py BUNDLE unet|decoder|picture
    ->  {"peak_rss_bytes": ..., "peak_private_bytes": ...}

The first run on a machine also optimises the graph; run it twice and take the second.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np

from ldmc.runtime import backends, load, memory
from ldmc.runtime.component import Component
from ldmc.runtime.checks.opening import Vouched
from ldmc.runtime.manifest import read_manifest

CALLS = 2  # buffers that are kept are there in the second


class Sampler(threading.Thread):
    """The most private memory that is seen; resident memory has a mark of its own in the kernel."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0

    def run(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, memory.private_bytes() or 0)
            time.sleep(0.001)


def run_component(bundle: str, name: str) -> None:
    """Open one component alone, and call it."""
    manifest = read_manifest(bundle)
    entry = manifest.components[name]
    options = backends.OpenOptions(keep_buffers=name == "unet", vouched=Vouched(manifest, trust=True))
    component = Component(entry, backends.open_component(manifest, entry, options, []))
    noise = np.random.RandomState(0)
    arrays = [
        noise.standard_normal(tensor.shape)
        if tensor.dtype.startswith("float")
        else np.full(tensor.shape, 500)
        for tensor in entry.inputs
    ]
    for _ in range(CALLS):
        component.run(arrays)


def run_picture(bundle: str) -> None:
    """Open the bundle, and draw in two steps."""
    with load(bundle) as pipeline:
        pipeline.generate(steps=CALLS)


def main() -> None:
    """Run what is named, and print the marks."""
    bundle, what = sys.argv[1:3]
    sampler = Sampler()
    sampler.start()
    if what == "picture":
        run_picture(bundle)
    else:
        run_component(bundle, what)
    marks = {"peak_rss_bytes": memory.peak_rss_bytes(), "peak_private_bytes": sampler.peak_bytes}
    print(json.dumps(marks))


if __name__ == "__main__":
    main()
