"""What `finish` does, in order: check, build, embed, verify, time."""

import io
import json
import time

from ..errors import BundleProblem
from ..checks.inventory import check_unlisted
from ..checks.opening import Vouched
from ..manifest import check_files, read_manifest
from . import embed, ladder, plan, process
from .machine import MIB, Machine, ask_libraries, check_machine
from .record import Record

# What of a level (see `..level`) the manifest keeps; pictures and single runs are left out.
TIMED = ("load_seconds", "first_seconds", "denoise", "decode", "total", "open_seconds", "peak_rss_bytes",
         "private_bytes_after_load", "power_watts", "energy_joules")

VERIFICATION_FAILED = 5


class Options(object):
    """What was asked for: `only` (component or part, "" for all), `keep_going`, `anyway` (memory, disk), `again`,
    `steps` and `runs` of the timing (0 runs: none), `root` (where the machine's facts are read), `trust` (see
    `load`)."""

    def __init__(self, only="", keep_going=False, anyway=False, again=False, steps=20, runs=1, root="/", trust=False):
        self.only = only
        self.keep_going = keep_going
        self.anyway = anyway
        self.again = again
        self.steps = steps
        self.runs = runs
        self.root = root
        self.trust = trust


class Finisher(object):
    """One `finish` of one bundle.

    Args: bundle: its folder. options: Options. say: writes a line. on_tick: see `process.run`.
    """

    def __init__(self, bundle, options, say, on_tick=None):
        self._options = options
        self._say = say
        self._on_tick = on_tick
        manifest = read_manifest(bundle)
        self.record = Record(manifest.root)
        self.machine = None
        self.checks = []
        if not self.record.steps:
            raise BundleProblem("%s has nothing to finish: it was compiled whole" % manifest.root,
                                "draw with it: python3 -m runtime")
        self._check_only()

    def check_listing(self):
        """Refuses files that the manifest does not list, before anything could import or read them."""
        check_unlisted(read_manifest(self.record.root))

    def inspect(self, working_path):
        """Asks the machine and checks it; nothing is refused yet. `working_path`: name -> path for scratch files."""
        module = self.record.module
        self.machine = Machine(self._options.root, ask_libraries(module, working_path))
        self.checks = check_machine(self.machine, self.record.finish.get("device") or {}, module)
        steps = self.steps_to_build()
        self.checks.append(plan.check_memory(steps, self.machine))
        self.checks.append(plan.check_disk(steps, self.record.root))
        for check in self.checks:
            self._say("  %-13s %s%s" % (check.name, check.found, "" if not check.problem else "  <- " + check.problem))

    def wrong(self):
        """Checks that failed and are not to be passed over."""
        anyway = ("memory", "disk") if self._options.anyway else ()
        return [check for check in self.checks if check.problem and check.name not in anyway]

    def refuse(self):
        """Raises BundleProblem for the first check that failed."""
        for check in self.wrong():
            raise BundleProblem(check.problem, check.fix)

    def check_files(self, hashes=True):
        """Every file of the bundle, by its size and SHA-256: an hour of building must not end on a damaged copy, nor on
        an engine that came with it and may not be run."""
        start = time.monotonic()
        manifest = read_manifest(self.record.root)
        if hashes:
            vouched = Vouched(manifest, self._options.trust)
            vouched.check_whole()
            vouched.require_all()
        else:
            check_files(manifest.root, manifest)
        total_bytes = sum(entry["bytes"] for entry in manifest.files)
        self._say("  %-13s %d, %d MiB, %sas the manifest says (%.1f s)" % (
            "files", len(manifest.files), total_bytes // MIB, "" if hashes else "by size ", time.monotonic() - start))

    def steps_to_build(self):
        """Steps that are left and were asked for, smallest first."""
        only = self._options.only
        return [step for step in self.record.pending() if not only or only in (step["component"], step["part"])]

    def build(self):
        """Builds what is left. Returns: the problems met (empty, or with keep_going perhaps some)."""
        problems = []
        settled = set()
        while True:
            left = [step for step in self.steps_to_build() if step["part"] not in settled]
            if not left:
                return problems
            step = left[0]
            settled.add(step["part"])
            if step["status"] == "failed":  # by an earlier run: perhaps there is more memory now
                self._start_over(step)
            try:
                ladder.climb_down(self.record, step, self.machine, self._say, self._on_tick, self._options.anyway)
            except BundleProblem as problem:
                if not self._options.keep_going:
                    raise
                self._say("%s: %s" % (step["part"], problem.message))
                problems.append(problem)

    def steps_to_embed(self):
        """Steps whose engine is built and is still to be embedded."""
        return [step for step in self.record.steps
                if step.get("embed") and "engine" in step and "embedded" not in step]

    def embed(self):
        """Embeds the engines that are to be. Returns: the problems met."""
        problems = []
        for step in self.steps_to_embed():
            try:
                embed.embed(self.record, step, self._say)
            except BundleProblem as problem:
                if not self._options.keep_going:
                    raise
                self._say("%s: %s" % (step["part"], problem.message))
                problems.append(problem)
        return problems

    def verify(self):
        """Compares every component that is built and has a reference. Raises BundleProblem, exit code 5, where one is
        too far from it."""
        needed_db = float(self.record.finish.get("needed_snr_db") or 0)
        verified = self.record.finish.setdefault("verified", {})
        worst = []
        for name in sorted(self.record.finish.get("reference") or {}):
            if any(step["component"] == name for step in self.record.pending()):
                continue
            found = self._compare(name)
            passed = found["snr_db"] >= needed_db
            verified[name] = {"snr_db": round(found["snr_db"], 2), "needed_snr_db": needed_db, "passed": passed}
            self.record.save()
            self._say("%s: %.1f dB against the reference, %.1f needed; %d calls in %.1f s" % (
                name, found["snr_db"], needed_db, found["calls"], found["seconds"]))
            for remark in found["remarks"]:
                self._say("%s: %s" % (name, remark))
            if not passed:
                worst.append("%s gives %.1f dB" % (name, found["snr_db"]))
        if worst:
            message = "the finished bundle does not draw what the model draws: %s, %.1f are needed" % (
                ", ".join(worst), needed_db)
            fix = "build the bundle again keeping more in fp32 (`keep=` of the pass fp16)"
            raise BundleProblem(message, fix, VERIFICATION_FAILED)

    def time(self):
        """Times whole pictures in a process of its own; the result goes into the manifest. None where skipped."""
        if self._options.runs == 0 or self.record.pending():
            return None
        result, log = self.record.working_path("bench.json"), self.record.working_path("bench.log")
        ended = process.run([
            process.package_name(), "bench", "--bundle", self.record.root, "-o", result, "--steps",
            str(self._options.steps), "--runs", str(self._options.runs), "--warmup", "1"] + self._trust(), log,
            self._on_tick)
        if ended.code != 0:
            raise BundleProblem("the finished bundle does not draw: %s" % (process.tail(log, 1) or ["no output"])[0])
        with io.open(result, encoding="utf-8") as stream:
            measured = json.load(stream)
        found = {name: measured["levels"][0][name] for name in TIMED}
        found.update({name: measured["settings"][name] for name in ("steps", "runs", "warmup", "batch", "threads")})
        self.record.finish["timing"] = found
        self.record.save()
        self._say("a picture of %d steps: %.2f s (denoise %.2f, decode %.2f), loaded in %.1f s, peak %d MiB" % (
            found["steps"], found["total"]["p50_seconds"], found["denoise"]["p50_seconds"],
            found["decode"]["p50_seconds"], found["load_seconds"], (found["peak_rss_bytes"] or 0) // MIB))
        return found

    def _compare(self, name):
        result, log = self.record.working_path("compare.json"), self.record.working_path("compare.log")
        arguments = [process.package_name(), "finish-helper", "compare", self.record.root, name, result]
        ended = process.run(arguments + self._trust(), log, self._on_tick)
        if ended.code != 0:
            said = process.tail(log, 1)
            why = "was killed: the system is out of memory" if ended.was_killed else said[0] if said else "no output"
            raise BundleProblem("component %s does not run: %s" % (name, why), "its log is %s" % log)
        with io.open(result, encoding="utf-8") as stream:
            return json.load(stream)

    def _trust(self):
        """The option that lets a child load engines: the user's word, or where there is no list of what was made here
        and this process made them all."""
        made = self.record.why_not_kept and self.record.only_made_here()
        return ["--trust"] if self._options.trust or made else []

    def _start_over(self, step):
        step["status"] = "pending"
        step["earlier_attempts"] = step.get("earlier_attempts", []) + step.pop("attempts", [])
        self.record.save()

    def _check_only(self):
        only = self._options.only
        names = sorted({name for step in self.record.steps for name in (step["component"], step["part"])})
        if only and only not in names:
            raise BundleProblem("there is no step for %r" % only, "steps are %s" % ", ".join(names), exit_code=2)
