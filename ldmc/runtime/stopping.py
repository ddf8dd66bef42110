"""A stop that was asked for ends the work: within two seconds, whatever it is at, and with nothing left behind.

    Ctrl-C, SIGTERM --Python--> `kind` is raised in the main thread and unwinds it --> what is left over is removed
                    --C-------> the watcher, a thread, which need not wait for the main one

Python drops an exception that comes up in a weakref's callback or in `__del__`, and a library may swallow it: the
watcher has it raised again until the main thread has unwound. Where that thread is in C++ and does not come back, the
watcher itself cleans up and ends the process; only C++ that keeps Python's lock meanwhile can hold it up.

A second raise may end a clean-up half-way. So what must not stay is known to `leftovers` before it is made, and is
removed once more at the end; and what must not be cut in two (a pair of renames) is done `undivided`.
"""

import contextlib
import os
import signal
import sys
import threading
import time

from . import leftovers

AGAIN_SECONDS = 0.2  # between two raises
PATIENCE_SECONDS = 0.7  # with a main thread that unwinds, or is in C++
UNDIVIDED_SECONDS = 5.0  # more, with one that does what must not be cut in two
EXIT_CODE = 130

_HOOK = "unraisablehook"  # of `sys`, from Python 3.8 on
_WAKE = b"\0"  # no signal's number
_watch = None  # of the work that is running in this process


class Stopped(KeyboardInterrupt):
    """A stop, where no other kind of exception is asked for."""


def stoppable(work, kind, last_words, numbers=(signal.SIGINT, signal.SIGTERM), patience_seconds=PATIENCE_SECONDS):
    """Runs `work()`, which may be stopped. Call it in the main thread; in another one, nothing is stopped.

    Args:
        kind: exception class that a stop is, for the work to unwind by. last_words: called without arguments where the
            work does not unwind in time, from another thread, just before the process ends with code 130; writes with
            `os.write` only. numbers: of signals that stop; one that is ignored stays ignored.
    Returns: (what `work` gave, False), or (None, True) where it was stopped; what was left over is removed by then.
    Raises: what `work` raises.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread():
        return work(), False
    before = _watch
    _watch = watch = _Watch(kind, last_words, numbers, patience_seconds, sys._getframe())
    try:
        watch.start()
        result = work()
        watch.is_over = True
        return result, False
    except kind:
        watch.is_over = True  # first, and in this frame, in which no signal raises
        if not watch.was_raised:
            raise
        watch.finish_clean_up()
        return None, True
    finally:
        watch.is_over = True
        watch.close()
        _watch = before


@contextlib.contextmanager
def undivided():
    """A stop that comes meanwhile is raised at the end. For what takes moments and must not be cut in two."""
    watch = _watch if threading.current_thread() is threading.main_thread() else None
    if watch is None:
        yield
        return
    watch.undivided += 1
    try:
        yield
    finally:
        watch.undivided -= 1
    if watch.was_asked and not watch.undivided and not watch.is_over:
        watch.was_raised = True
        raise watch.kind()


@contextlib.contextmanager
def asked_politely():
    """The first stop that comes meanwhile is raised by `check`, and at the end, only: for work that, stopped, still has
    something to do. The next one ends it like any other work."""
    watch = _watch
    if watch is None:
        yield
        return
    watch.polite += 1
    try:
        yield
        check()
    finally:
        watch.polite -= 1


def check():
    """Raises the stop that was asked for politely, once; where there is none, nothing."""
    if _watch is not None and _watch.is_waiting:
        _watch.is_waiting = False
        _watch.was_raised = True
        raise _watch.kind()


def forget():
    """For a process that was forked from one with stoppable work: signals end it, and what is left over is not its."""
    global _watch
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    leftovers.forget()
    _watch = None


def end_now():
    """Ends a process whose work was stopped: what libraries would still wait for as Python ends is not waited for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(EXIT_CODE)


class _Watch(object):
    """What is known of a stop, and the thread that sees to it.

    is_over: the main thread has unwound; set by it alone. was_asked: to stop, impolitely. was_raised: and that was
    raised. undivided, polite: how deep the main thread is in such a block. is_waiting: a polite stop waits for `check`.
    """

    def __init__(self, kind, last_words, numbers, patience_seconds, home):
        self.kind = kind
        self.undivided = self.polite = 0
        self.is_over = self.was_asked = self.was_raised = self.is_waiting = False
        self._was_polite = False  # of which there is one
        self._last_words = last_words
        self._numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        self._patience_seconds = patience_seconds
        self._home = home
        self._handlers = {}
        self._before = leftovers.descendants()
        self._main = threading.main_thread().ident
        self._lock = threading.Lock()
        self._hook = getattr(sys, _HOOK, None)  # from Python 3.8 on
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._old_wakeup = -1
        self._thread = threading.Thread(target=self._run, name="stop", daemon=True)

    def start(self):
        self._thread.start()
        self._old_wakeup = signal.set_wakeup_fd(self._write_end)
        if self._hook is not None:
            setattr(sys, _HOOK, self._dropped)
        for number in self._numbers:
            self._handlers[number] = signal.signal(number, self._handle)

    def close(self):
        """Puts everything back as it was, and ends the thread."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._hook is not None:
            setattr(sys, _HOOK, self._hook)
        signal.set_wakeup_fd(self._old_wakeup)
        os.write(self._write_end, _WAKE)  # not by closing it: a forked child may hold it open
        self._thread.join()
        os.close(self._write_end)
        os.close(self._read_end)

    def finish_clean_up(self):
        """Once the main thread has unwound: what its own clean-up did not get to."""
        with self._lock:  # where the watcher was first, it goes on to the end of the process
            leftovers.remove(self._before)

    def _handle(self, _number, frame):
        """Python's handler, in the main thread, between two of its steps."""
        if self.is_over or frame is self._home or (self.polite and not self.was_asked):
            return  # the watcher knows of it
        self.was_asked = True
        signal.set_wakeup_fd(-1)  # the watcher is awake; nobody reads of further signals, and the pipe would fill up
        if not self.undivided:
            self.was_raised = True
            raise self.kind()

    def _dropped(self, unraisable):
        """Instead of Python's complaint about an exception that it drops: this one comes again."""
        if not issubclass(unraisable.exc_type, self.kind):
            self._hook(unraisable)

    def _run(self):
        """The watcher: waits for the first signal, and then until the work is over."""
        while not self.is_over:
            byte = os.read(self._read_end, 1)  # written as the signal comes, whatever the main thread is at
            if byte[0] not in self._numbers:
                continue
            if self.polite and not self._was_polite and not self.was_asked:
                self._was_polite = self.is_waiting = True
                continue
            self.was_asked = True
            self._see_to_it()
            return

    def _see_to_it(self):
        start = time.monotonic()
        while not self.is_over:
            waited = time.monotonic() - start
            if waited > self._patience_seconds + (UNDIVIDED_SECONDS if self.undivided else 0):
                with self._lock:
                    if not self.is_over:
                        self._end()
                return
            if waited > AGAIN_SECONDS:
                signal.pthread_kill(self._main, self._numbers[0])
            time.sleep(AGAIN_SECONDS)

    def _end(self):
        """Clean up and end the process from here: the main thread does not come back."""
        try:
            leftovers.remove(self._before)
            self._last_words()
        finally:
            os._exit(EXIT_CODE)
