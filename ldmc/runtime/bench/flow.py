"""What `bench` does, in order: idle power, preparing, drawings under the meter; and the result's one level."""

import base64
import os
import platform
import sys
import time

from .. import memory, stopping
from ..backends import check_bundle
from ..checks.opening import Vouched
from ..level import level_record
from ..loader import load
from ..measure import Drawings
from ..meters import MeterProblem, Recorder, choose
from ..meters.watch import GpuMemory, Watch
from ..png import encode_png
from ..result import describe_bundle, describe_model, document

AGAINST_BASELINE = ("speedup", "speedup_low", "speedup_high", "psnr_db")
NO_BASELINE = "no baseline was drawn on this device"


class Options(object):
    """What was asked for: `steps`, `runs`, `warmup`, `batch`, `threads` (None: one per core), `seed`, `idle_seconds`
    (0: idle power is not measured), `cache`, `root` (where /sys and /proc are looked for), `find` (commands), `trust`
    (see `load`)."""

    def __init__(self, steps, runs, warmup, batch, threads, seed, idle_seconds, cache, root, find, trust=False):
        self.steps = steps
        self.runs = runs
        self.warmup = warmup
        self.batch = batch
        self.threads = threads
        self.seed = seed
        self.idle_seconds = idle_seconds
        self.cache = cache
        self.root = root
        self.find = find
        self.trust = trust


class Bench(object):
    """One bench of one bundle. Args: manifest: of the bundle. options: Options. say: writes a line."""

    def __init__(self, manifest, options, say):
        self._manifest = manifest
        self._options = options
        self._say = say
        self._idle_watts = self._prepare_seconds = None
        self._drawings = Drawings(self._open, options.steps, options.runs, options.warmup, options.seed, options.batch)
        self._remarks = []

    def run(self, command, on_run=None):
        """Measures. Returns the result: see the package's docstring; where it was interrupted, of the drawings before.
        Raises: BundleProblem; KeyboardInterrupt before the first measured drawing."""
        Vouched(self._manifest, self._options.trust).require_all()
        check_bundle(self._manifest)  # before a while of idling
        meter, why = choose(self._manifest.power, self._options.root, self._options.find)
        gpu, why_no_gpu = self._gpu_memory()
        recorder = Recorder(meter) if meter else None
        try:
            if recorder:
                self._say("power: %s" % meter.title)
                recorder.start()
                self._idle_watts, why_no_idle = self._idle(recorder)
            else:
                why_no_idle = why
            self._prepare()
            watch = Watch(os.getpid(), gpu)
            interrupted = self._draw(watch, on_run)
            level = self._level(recorder, watch, {
                "power_watts": why, "power_net_watts": why_no_idle, "peak_gpu_bytes": why_no_gpu})
            power = {"meter": meter.title if meter else None, "absent": why, "idle_watts": self._idle_watts}
            return self._result(command, gpu.name if gpu else "", power, level, interrupted)
        finally:
            if recorder:
                recorder.stop()
            if gpu:
                gpu.close()

    def _open(self):
        options = self._options
        pipeline = load(self._manifest.root, threads=options.threads, cache=options.cache, trust=options.trust)
        self._remarks = pipeline.remarks
        return pipeline

    def _gpu_memory(self):
        """(GpuMemory, None), or (None, why)."""
        if self._manifest.power != "nvml":
            shared = self._manifest.power == "tegrastats"
            return None, "CPU and GPU share the memory: see peak_system_bytes" if shared else "no GPU is used"
        try:
            return GpuMemory(find=self._options.find), None
        except MeterProblem as problem:
            return None, str(problem)

    def _idle(self, recorder):
        """(watts, None) before anything is loaded, or (None, why)."""
        if not self._options.idle_seconds:
            return None, "idle power was not asked for"
        start = time.monotonic()
        time.sleep(self._options.idle_seconds)
        energy = recorder.energy(start, time.monotonic())
        if energy is None:
            return None, recorder.why
        self._say("idle: %.2f W" % energy.mean_watts)
        return energy.mean_watts, None

    def _prepare(self):
        """Opens the bundle once: what is done once on a machine (an optimised graph) is no part of loading."""
        start = time.perf_counter()
        self._open().close()
        self._prepare_seconds = time.perf_counter() - start
        for remark in self._remarks:
            self._say("warning: %s" % remark)
        memory.give_back_freed()
        memory.reset_peak()

    def _draw(self, watch, on_run):
        """Returns how far it came where it was interrupted; "" where it was not."""
        with watch:
            try:
                with stopping.asked_politely():
                    self._drawings.run(on_run)
            except KeyboardInterrupt:
                done = len(self._drawings.timings) - self._options.warmup
                if done < 1:
                    raise
                return "after %d of %d drawings" % (done, self._options.runs)
        return ""

    def _level(self, recorder, watch, absent):
        manifest, drawings = self._manifest, self._drawings
        absent = dict(watch.why, **{name: why for name, why in absent.items() if why})
        readings = {
            "peak_rss_bytes": memory.peak_rss_bytes(), "peak_pss_bytes": watch.peak_pss_bytes,
            "private_bytes_after_load": drawings.private_bytes, "peak_gpu_bytes": watch.peak_gpu_bytes,
        }
        name = os.path.basename(manifest.root)
        image = drawings.image if self._options.batch == 1 else drawings.image[0]
        level = level_record(drawings.timings, self._options.warmup, readings, recorder, self._idle_watts, absent)
        level["absent"].update(dict.fromkeys(AGAINST_BASELINE, NO_BASELINE))
        if watch.peak_system_bytes is None:
            level["absent"]["peak_system_bytes"] = watch.why["peak_system_bytes"]
        level.update(dict.fromkeys(AGAINST_BASELINE), peak_cgroup_bytes=memory.cgroup_peak_bytes())
        if level["peak_cgroup_bytes"] is None:
            level["absent"]["peak_cgroup_bytes"] = "this system does not say (memory.peak of the process's group)"
        level.update(describe_bundle(manifest))
        level.update(
            name=name, title=name, status="measured", why=None,
            prepare_seconds=self._prepare_seconds, load_seconds=drawings.load_seconds,
            peak_system_bytes=watch.peak_system_bytes, rail_watts=self._rails(recorder),
            identical=False, picture_png=base64.b64encode(encode_png(image)).decode("ascii"))
        return level

    def _rails(self, recorder):
        """Mean watts of each rail over the measured drawings, by label; {} where there is none."""
        timings = self._drawings.timings[self._options.warmup:]
        if recorder is None or not timings:
            return {}
        return recorder.rails(timings[0]["start_monotonic_seconds"], timings[-1]["end_monotonic_seconds"])

    def _result(self, command, gpu, power, level, interrupted):
        manifest, options = self._manifest, self._options
        settings = {
            "steps": options.steps, "runs": options.runs, "warmup": options.warmup, "batch": options.batch,
            "threads": options.threads, "seed": options.seed, "torch_device": None}
        return document(command, settings, describe_model(manifest), power, [level], packages(manifest), gpu or None,
                        interrupted, options.root, options.find)


def packages(manifest):
    """name -> version of what made the bundle and of what runs it here: only what has been imported."""
    found = {"ldmc": (manifest.data.get("toolchain") or {}).get("ldmc"), "python": platform.python_version()}
    for name in ("numpy", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch"):
        if name in sys.modules:
            found[name] = getattr(sys.modules[name], "__version__", None)
    return {name: version for name, version in found.items() if version}
