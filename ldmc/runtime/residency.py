"""Which components of a bundle are in memory: all of them, or, where memory is short, only the one at work.

    unet  unet  unet ... decoder | unet ...       asked for
    |open                |close unet, open decoder

One call at a time, whichever thread asks for it. An engine keeps its inputs, outputs and working memory in one place
that a second call would overwrite, a component may be closed to make room for another only between calls, and the
memory that was planned for a bundle is that of one call.
"""

import contextlib
import threading
import time

from .errors import BundleProblem


class Components(object):
    """The components of an open bundle. Safe to call from several threads.

    Args:
        open_one: called with a name; gives an open `Component`.
        one_at_a_time: close every other component before one is opened.
    """

    def __init__(self, open_one, one_at_a_time):
        self._open_one = open_one
        self._one_at_a_time = one_at_a_time
        self._held = {}
        self._is_closed = False
        # Reentrant, so that a signal handler that calls amid a call is refused, and does not wait for itself.
        self._lock = threading.RLock()
        self._is_busy = False
        self._own = threading.local()  # open_seconds of each thread

    @property
    def open_seconds(self):
        """Time that calls of this thread have spent opening and closing components."""
        return getattr(self._own, "open_seconds", 0.0)

    def open(self, name):
        """Opens component `name`, if it is not open. Raises BundleProblem where it cannot be, and after `close`."""
        with self._turn():
            self._require(name)

    def run(self, name, arrays):
        """Runs component `name` on `arrays`, once the calls of other threads have ended.

        Returns: see `Component.run`.
        Raises: BundleProblem where it cannot be opened or fails, and after `close`.
        """
        with self._turn():
            self._require(name)
            return self._held[name].run(arrays)

    def close(self):
        """Drops all of them, for good, once the call at work has ended; those that wait for their turn get none."""
        self._is_closed = True
        with self._lock:
            if not self._is_busy:  # else a signal handler closes amid a call of this thread, which drops them itself
                self._drop()

    @contextlib.contextmanager
    def _turn(self):
        """Waits for this thread's turn, and holds it."""
        with self._lock:
            if self._is_closed:
                raise BundleProblem("the pipeline was closed", "load the bundle again")
            if self._is_busy:
                raise BundleProblem("the pipeline was called by a signal handler amid another call",
                                    "call it when that has returned")
            try:
                self._is_busy = True
                yield
            finally:
                self._is_busy = False
                if self._is_closed:
                    self._drop()

    def _require(self, name):
        if name in self._held:
            return
        start = time.perf_counter()
        if self._one_at_a_time:
            self._drop()
        self._held[name] = self._open_one(name)
        self._own.open_seconds = self.open_seconds + time.perf_counter() - start

    def _drop(self):
        while self._held:
            self._held.popitem()[1].close()
