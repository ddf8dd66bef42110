"""How much memory TensorRT's builder takes for one graph: an upper bound from documented multiples.

    libraries          CUDA context, cuBLAS, cuDNN: as the target lists them, from posted logs
    weights x 5        "Builders hold at least two host copies of the weights; up to 5x is documented"
    activations        of the graph: tactics are timed on real buffers
    workspace          what the builder may take for tactics; 64 MiB is what pending engines ask for

It holds for weights as external data, parsed from the file: inline weights are parsed at three times their size on top.
Measured elsewhere: a 33 MiB engine's build took 1111 MiB in all on a Nano, 801 MiB of which are libraries.
"""

from __future__ import annotations

from ldmc.targets.target import MIB, Target

WEIGHT_COPIES = 5
WORKSPACE_BYTES = 64 * MIB


def build_peak_bytes(weights_bytes: int, activation_bytes: int, target: Target) -> int:
    """Most memory that building one engine takes on `target`, in bytes, libraries included.

    weights_bytes: of the graph the engine is built from. activation_bytes: most of it alive at one time.
    """
    libraries_bytes = target.memory.libraries_bytes if target.memory else 0
    return libraries_bytes + WEIGHT_COPIES * weights_bytes + activation_bytes + WORKSPACE_BYTES
