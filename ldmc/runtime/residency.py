"""Which components of a bundle are in memory: all of them, or, where memory is short, only the one at work.

    unet  unet  unet ... decoder | unet ...       asked for
    |open                |close unet, open decoder
"""

import time

from .errors import BundleProblem


class Components(object):
    """The components of an open bundle.

    Args:
        open_one: called with a name; gives an open `Component`.
        one_at_a_time: close every other component before one is opened.
    Attributes: `open_seconds`: time spent opening and closing so far.
    """

    def __init__(self, open_one, one_at_a_time):
        self._open_one = open_one
        self._one_at_a_time = one_at_a_time
        self._held = {}
        self._is_closed = False
        self.open_seconds = 0.0

    def get(self, name):
        """Component `name`, opened if it is not. Raises BundleProblem where it cannot be, and after `close`."""
        if self._is_closed:
            raise BundleProblem("the pipeline was closed", "load the bundle again")
        if name not in self._held:
            start = time.perf_counter()
            if self._one_at_a_time:
                self._drop()
            self._held[name] = self._open_one(name)
            self.open_seconds += time.perf_counter() - start
        return self._held[name]

    def close(self):
        """Drops all of them, for good."""
        self._drop()
        self._is_closed = True

    def _drop(self):
        while self._held:
            self._held.popitem()[1].close()
