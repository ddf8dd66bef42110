"""The most memory that a process has over a span of time, asked for again and again in the background.

The kernel keeps the highest mark of a process's resident memory itself (VmHWM); of its share (PSS), of a card's memory
and of the machine's, nobody does.
"""

import shutil
import threading
import time

from .. import memory
from . import nvidia_smi
from .nvml_library import NAME, Gpu
from .reading import MeterProblem

INTERVAL_SECONDS = 0.2
PEAKS = ("peak_pss_bytes", "peak_gpu_bytes", "peak_system_bytes")
COST = 100  # a look that takes long (the pages of 2 GB: 20 ms; nvidia-smi) is taken seldom: 1 % of a core at the most


class Watch(object):
    """Watches process `pid` between `start` and `stop`; also a context manager.

    Args: pid: of the process. gpu: GpuMemory; None where it uses no card.
    Attributes:
        peak_pss_bytes, peak_gpu_bytes, peak_system_bytes: the most so far; None where not known. The last is how far
            the memory in use of the whole machine rose over what it was at the start: where CPU and GPU share the
            memory, what a process allocates on the GPU is seen there alone. On a card, a container's process is not
            told from others (the driver counts processes as the host does); its peak is then the card's rise.
        why: name of such an attribute -> why it is None.
    """

    def __init__(self, pid, gpu=None, interval_seconds=INTERVAL_SECONDS):
        self.peak_pss_bytes = self.peak_gpu_bytes = self.peak_system_bytes = None
        self.why = {}
        self._pid = pid
        self._gpu = gpu
        self._interval_seconds = interval_seconds
        self._used_before_bytes = _used_bytes()
        self._card_rise_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self._thread.daemon = True

    def start(self):
        """Begins."""
        self._thread.start()
        return self

    def stop(self):
        """Ends, after one more look."""
        self._stop.set()
        self._thread.join()
        if self.peak_gpu_bytes is None and self._card_rise_bytes > 0:
            self._note("peak_gpu_bytes", self._card_rise_bytes, "")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _run(self):
        while True:
            last = self._stop.is_set()
            start = time.monotonic()
            try:
                self._look()
            except Exception as problem:  # a fault of this program: what is watched must not fail of it
                self.why = {name: "%s: %s" % (type(problem).__name__, problem) for name in PEAKS
                            if getattr(self, name) is None}
                return
            if last:
                return
            self._stop.wait(max(self._interval_seconds, COST * (time.monotonic() - start)))

    def _look(self):
        self._note("peak_pss_bytes", memory.pss_bytes_of(self._pid), "this system does not say (smaps)")
        used = _used_bytes()
        rise = None if used is None or self._used_before_bytes is None else used - self._used_before_bytes
        self._note("peak_system_bytes", rise, "this system does not say (/proc/meminfo)")
        if self._gpu is None:
            self.why["peak_gpu_bytes"] = "no graphics card is used"
            return
        try:
            self._note("peak_gpu_bytes", self._gpu.bytes_of(self._pid), "the driver does not say what a process has")
            if self.peak_gpu_bytes is None:
                self._card_rise_bytes = max(self._card_rise_bytes, self._gpu.rise_bytes())
        except MeterProblem as problem:
            self._note("peak_gpu_bytes", None, str(problem))

    def _note(self, name, value, why):
        """Keeps the larger; a reason stands only where there never was a value."""
        before = getattr(self, name)
        if value is not None:
            setattr(self, name, value if before is None else max(before, value))
            self.why.pop(name, None)
        elif before is None:
            self.why[name] = why


class GpuMemory(object):
    """The memory that a process has on NVIDIA's cards: by the driver's library, else by nvidia-smi. Close it.

    Args: index: of the card. find: name of a command -> its path, or None. library: name or path of libnvidia-ml.
    Raises: MeterProblem where there is neither.
    """

    def __init__(self, index=0, find=shutil.which, library=NAME):
        self._gpu = self._path = None
        self._before_bytes = 0
        try:
            self._gpu = Gpu(index, library)
            self._before_bytes = self._gpu.used_bytes()
        except MeterProblem as problem:
            self.close()
            self._gpu = None
            self._path = find("nvidia-smi")
            if self._path is None:
                raise problem

    @property
    def name(self):
        """The card's; "" where only nvidia-smi is known."""
        return self._gpu.name if self._gpu else ""

    def bytes_of(self, pid):
        """Bytes; None where the process has none, or the driver does not tell. Raises MeterProblem."""
        return self._gpu.process_bytes(pid) if self._gpu else nvidia_smi.process_bytes(self._path, pid)

    def rise_bytes(self):
        """How much more of the card is in use, by all programs, than when this was opened; 0 where not known."""
        return self._gpu.used_bytes() - self._before_bytes if self._gpu else 0

    def close(self):
        """Ends the use of the library."""
        if self._gpu:
            self._gpu.close()


def _used_bytes():
    known = memory.meminfo()
    if "MemTotal" not in known or "MemAvailable" not in known:
        return None
    return known["MemTotal"] - known["MemAvailable"]
