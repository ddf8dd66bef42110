"""One component as numpy sees it: any batch in, the compiled batch at a time, float32 out."""

import numpy as np

from .errors import BundleProblem


class Component(object):
    """Splits a batch into what the component was compiled for, casts, runs, and checks what comes out.

    Args:
        entry: ComponentEntry of the manifest.
        engine: an open backend component with `run` and `close`.
    """

    def __init__(self, entry, engine):
        self.entry = entry
        self._engine = engine

    def run(self, arrays):
        """The first output, float32 [N, ...], for `arrays` of leading size N.

        Raises: BundleProblem where the component was closed, fails, or gives NaN or infinity.
        """
        if self._engine is None:
            raise BundleProblem("the pipeline was closed", "load the bundle again")
        count = len(arrays[0])
        size = self.entry.inputs[0].shape[0]
        parts = [self._run_chunk([array[start:start + size] for array in arrays], size)
                 for start in range(0, count, size)]
        output = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._check_finite(output)
        return output

    def close(self):
        """Drops the engine's memory."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def _run_chunk(self, chunk, size):
        count = len(chunk[0])
        prepared = []
        for array, tensor in zip(chunk, self.entry.inputs):
            if count < size:  # the last row again: zeros could divide by zero somewhere
                array = np.concatenate([array] + [array[-1:]] * (size - count))
            prepared.append(np.ascontiguousarray(array, dtype=tensor.dtype).reshape(tensor.shape))
        return self._engine.run(prepared)[0][:count].astype(np.float32, copy=False)

    def _check_finite(self, output):
        if np.isfinite(output).all():
            return
        bad = int(output.size - np.count_nonzero(np.isfinite(output)))
        message = "component %s gave %d values of %d that are NaN or infinite" % (
            self.entry.name, bad, output.size)
        fix = "run `ldmc verify` on the bundle; where it was built with fp16, `keep=` more in fp32"
        raise BundleProblem(message, fix)
