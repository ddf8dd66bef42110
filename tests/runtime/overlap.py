"""Calls from several threads that are made to overlap. Also a script for a bundle's folder: draws with engines so.

A call waits in the midst until another is there too, or until every other thread waits for its turn or has ended: no
clock decides what happens, and two calls that nothing keeps apart meet every time. Python 3.6, as the runtime.
"""

import functools
import json
import os
import sys
import threading

SEEDS = (1, 2, 3, 4)
# Functions of the runtime in which a thread waits for others.
TURNS = ("_turn", "_num_threads", "_wait")
_POLL_SECONDS = 0.002
_at_work = []  # the threads of `in_threads` that have not ended


def made_to_overlap(function):
    """`function`, which first waits for a call of it from another thread, where one can come."""
    meeting = threading.Condition()
    waiting = []

    @functools.wraps(function)
    def call(*arguments, **options):
        with meeting:
            if waiting:
                waiting.pop()
                meeting.notify_all()
            else:
                own = object()
                waiting.append(own)
                while own in waiting and not _nobody_comes():
                    meeting.wait(_POLL_SECONDS)
                if own in waiting:
                    waiting.remove(own)
        return function(*arguments, **options)

    return call


def _nobody_comes():
    """Whether all other threads wait for their turn or have ended."""
    frames = sys._current_frames()
    others = [thread for thread in list(_at_work) if thread is not threading.current_thread()]
    return all(thread.ident in frames and frames[thread.ident].f_code.co_name in TURNS for thread in others)


def in_threads(*calls):
    """What each call gives, or the exception it raises, all at the same time."""
    found = [None] * len(calls)

    def run(index):
        try:
            found[index] = calls[index]()
        except Exception as problem:
            found[index] = problem
        finally:
            _at_work.remove(threading.current_thread())

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    _at_work.extend(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def drawn_in_threads(pipeline, seeds=SEEDS, steps=3):
    """A picture for each seed, all at the same time."""
    return in_threads(*[functools.partial(pipeline.generate, seed=seed, steps=steps) for seed in seeds])


def drawn_in_turn(pipeline, seeds=SEEDS, steps=3):
    """The same, one after the other."""
    return [pipeline.generate(seed=seed, steps=steps) for seed in seeds]


def main():
    """Prints for each picture that was drawn at the same time as others: `equal`, or what it is instead."""
    sys.path.insert(0, os.getcwd())
    import runtime
    from runtime.backends.trt_engine import TensorRTEngine

    with runtime.load(".") as pipeline:
        in_turn = drawn_in_turn(pipeline)
        # between the copy of the inputs to the device and that of the outputs from it
        TensorRTEngine.enqueue = made_to_overlap(TensorRTEngine.enqueue)
        at_once = drawn_in_threads(pipeline)
    different = {image.tobytes() for image in in_turn}
    print(json.dumps({"different": len(different), "at_once": [
        str(other) if isinstance(other, Exception) else "equal" if (one == other).all() else "another picture"
        for one, other in zip(in_turn, at_once)]}))


if __name__ == "__main__":
    main()
