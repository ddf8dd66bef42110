"""Where tensors lie in one block of memory, so that those that are never alive together share it.

    step        0        1        2
    skip        [-----------------]      at 0
    hidden_0    [--------]               at 512
    hidden_1             [--------]      at 1024, beside hidden_0, which step 1 still reads
    output_0                      [--    at 512
"""

ALIGNMENT = 256  # TensorRT asks this of every address it is given


class Interval(object):
    """A tensor: `name`, `size_bytes`, and the first and last step at which it must be there, both included."""

    def __init__(self, name, size_bytes, first, last):
        self.name = name
        self.size_bytes = size_bytes
        self.first = first
        self.last = last

    def meets(self, other):
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


def place(intervals):
    """Offsets for all intervals in one block: largest first, each in the lowest gap that is free while it lives.

    Returns: (offsets: name -> offset, a multiple of 256; total_bytes).
    Source: greedy by size, Pisarchyk and Lee 2020, https://arxiv.org/abs/2001.03288.
    """
    placed = []
    for interval in sorted(intervals, key=lambda one: (-one.size_bytes, one.first, one.name)):
        taken = sorted((start, end) for other, start, end in placed if interval.meets(other))
        start = 0
        for other_start, other_end in taken:
            if start + interval.size_bytes <= other_start:
                break
            start = max(start, _aligned(other_end))
        placed.append((interval, start, start + interval.size_bytes))
    total_bytes = max([end for _, _, end in placed] or [0])
    return {interval.name: start for interval, start, _ in placed}, _aligned(total_bytes)


def _aligned(offset):
    return -(-offset // ALIGNMENT) * ALIGNMENT
