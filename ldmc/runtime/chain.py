"""A component of several parts: they run in order, and hand values on by name.

    unet.0 (input_0, input_1) -> a, b      unet.1 (a) -> c      unet.2 (b, c) -> output_0

A value is let go after the last part that reads it. Parts whose engine opens several at once are one link.
"""

from .errors import BundleProblem
from .manifest import REBUILD


class Segment(object):
    """Consecutive parts of one engine, and what they are from outside: what is read from before them, and given on.

    Attributes: `name`, `parts` (PartEntry), `inputs`, `outputs` (Tensor, in order).
    """

    def __init__(self, entry, start, stop):
        self.parts = entry.parts[start:stop]
        if stop - start == len(entry.parts):
            self.name, self.inputs, self.outputs = entry.name, entry.inputs, entry.outputs
            return
        self.name = "-".join(sorted({self.parts[0].name, self.parts[-1].name}))
        own = {tensor.name for part in self.parts for tensor in part.outputs}
        later = {tensor.name for part in entry.parts[stop:] for tensor in part.inputs}
        wanted = later | {tensor.name for tensor in entry.outputs}
        self.inputs = _once(t for part in self.parts for t in part.inputs if t.name not in own)
        self.outputs = _once(t for part in self.parts for t in part.outputs if t.name in wanted)


class Chain(object):
    """An open component made of open segments.

    Args:
        entry: ComponentEntry of the manifest.
        links: list of (segment, engine): `engine` runs and closes as `backends` says, on the segment's tensors.
    """

    def __init__(self, entry, links):
        self._entry = entry
        self._links = links
        self._let_go = _last_reads([segment for segment, _ in links], entry.outputs)

    def run(self, arrays):
        """Outputs for `arrays`, both in the manifest's order. Raises BundleProblem where an engine fails."""
        values = dict(zip([tensor.name for tensor in self._entry.inputs], arrays))
        for (segment, engine), done in zip(self._links, self._let_go):
            given = engine.run([values[tensor.name] for tensor in segment.inputs])
            values.update(zip([tensor.name for tensor in segment.outputs], given))
            for name in done:
                del values[name]
        return [values[tensor.name] for tensor in self._entry.outputs]

    def close(self):
        """Drops the memory of all engines."""
        for _, engine in self._links:
            engine.close()
        self._links = []


def check_chain(manifest, entry):
    """Refuses a component whose parts read what nothing before them gives. Raises BundleProblem."""
    there = {tensor.name: str(tensor) for tensor in entry.inputs}
    for part in entry.parts:
        _require(part.inputs, there, "part %s reads" % part.name, manifest)
        there.update((tensor.name, str(tensor)) for tensor in part.outputs)
    _require(entry.outputs, there, "component %s gives" % entry.name, manifest)


def _require(tensors, there, words, manifest):
    for tensor in tensors:
        if there.get(tensor.name) != str(tensor):
            found = there.get(tensor.name, "nothing")
            message = "%s: %s %s, and what is there is %s" % (manifest.path, words, tensor, found)
            raise BundleProblem(message, REBUILD)


def _last_reads(segments, outputs):
    """For each segment, the names of the values that nothing reads after it."""
    last = {}
    for index, segment in enumerate(segments):
        for tensor in segment.inputs + segment.outputs:
            last[tensor.name] = index
    kept = {tensor.name for tensor in outputs}
    return [sorted(name for name, at in last.items() if at == index and name not in kept)
            for index in range(len(segments))]


def _once(tensors):
    found = {}
    for tensor in tensors:
        found.setdefault(tensor.name, tensor)
    return list(found.values())
