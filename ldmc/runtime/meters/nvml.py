"""The power of an NVIDIA graphics card, from the driver's own library.

Cards since Volta count their energy, and the counter is taken: the power they report is the mean of the last second
(since Ampere), longer than a drawing may take. Before that it is power, integrated. A driver samples its sensor only
part of the time (on A100 and H100 a quarter of it), so that short work needs many runs.

Source: https://docs.nvidia.com/deploy/nvml-api/; "Part-time Power Measurements", https://arxiv.org/abs/2312.02741
"""

from .nvml_library import NAME, Gpu
from .reading import Reading, timed


class NVML(object):
    """Card `index`. library: name or path of libnvidia-ml. Raises MeterProblem where it has no power to tell."""

    interval_seconds = 0.05
    paces_itself = False

    def __init__(self, root, find, index=0, library=NAME):
        self._index = index
        self._library = library
        self._gpu = None
        gpu = Gpu(index, library)
        try:
            self.is_counter = gpu.energy_joules() is not None
            if not self.is_counter:
                gpu.power_watts()
        finally:
            gpu.close()
        self.title = "NVML, %s" % gpu.name

    def open(self, interval_seconds):
        """Opens the card."""
        self._gpu = Gpu(self._index, self._library)

    def read(self):
        """Reading: joules since the driver was loaded, or watts; memory of the card in use. Raises MeterProblem."""
        at, value = timed(self._gpu.energy_joules if self.is_counter else self._gpu.power_watts)
        return Reading(at, value, used_bytes=self._gpu.used_bytes())

    def close(self):
        """Closes the card."""
        self._gpu.close()
