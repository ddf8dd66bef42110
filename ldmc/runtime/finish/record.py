"""The manifest as `finish` changes it: every change is on the disk, whole, before the next thing starts."""

import json
import os

from ..checks.cache_folder import default_cache_folder, usable_cache_folder
from ..checks.paths import OUTSIDE, inside
from ..checks.trust import is_remembered, remember
from ..digest import sha256_of_file, sha256_of_text
from ..errors import BundleProblem
from ..files import flush, write_whole
from ..manifest import MANIFEST_NAME, REBUILD, read_manifest

FOLDER = ".finish"  # requests, logs, the timing cache and the lock; nothing the bundle needs
TIMING_CACHE = "timing.cache"


class Record(object):
    """The manifest's JSON, changed in place and saved whole.

    What is built is put on the user's list of what was made here (`checks.trust`), and so is the manifest after a
    change where it was on it before.

    Attributes: `root` (bundle folder), `folder` (working folder), `data`, `finish`, `steps`, `why_not_kept` ("" or why
    there is no such list).
    """

    def __init__(self, root):
        self.root = root
        self.path = os.path.join(root, MANIFEST_NAME)
        self.folder = inside(root, FOLDER, "finish")
        self._cache_folder, self.why_not_kept = usable_cache_folder(default_cache_folder(), root)
        self._made = set()  # SHA-256, by this process
        self.reload()

    def reload(self):
        """Reads the manifest anew: after waiting for the lock it may be another's. Raises BundleProblem."""
        manifest = read_manifest(self.root)
        check_steps(manifest)
        self.data = manifest.data
        self._was_made_here = is_remembered(self._cache_folder, manifest.sha256)
        self.finish = self.data.get("finish") or {}
        self.steps = self.finish.get("steps") or []

    @property
    def module(self):
        """The Python module that builds the engines."""
        packages = (self.data.get("requirements") or {}).get("packages") or {}
        return "tensorrt_rtx" if "tensorrt_rtx" in packages or "tensorrt-rtx" in packages else "tensorrt"

    def pending(self):
        """Steps that are not done, smallest first, and in the manifest's order where equal."""
        left = [step for step in self.steps if step["status"] != "done"]
        return sorted(left, key=lambda step: step.get("weights_bytes") or 0)

    def part(self, step):
        """The manifest's entry of the part that `step` builds."""
        for entry in self.data["components"][step["component"]]["parts"]:
            if entry["name"] == step["part"]:
                return entry
        message = "%s: finish.steps names part %s, which component %s does not have" % (
            self.path, step["part"], step["component"])
        raise BundleProblem(message, "build the bundle again with `ldmc build`")

    def working_path(self, name):
        """A path in the working folder, which is made. Raises BundleProblem for a link, which may lead anywhere."""
        if not os.path.isdir(self.folder):
            os.mkdir(self.folder)
        return _no_link(inside(self.root, "%s/%s" % (FOLDER, name), "finish"))

    def writable_path(self, relative, role):
        """A path of the bundle for a file of `role` to be made. Raises BundleProblem for a link, and for what is there
        and is listed as anything else."""
        for entry in self.data["files"]:
            if entry["path"] == relative and entry.get("role") != role:
                raise BundleProblem("%s is listed as %s: no %s can take its place" % (
                    relative, entry.get("role"), role), REBUILD)
        return _no_link(inside(self.root, relative, self.path))

    def was_made_here(self, sha256):
        """Whether this process or an earlier one of this user made the file with that SHA-256."""
        return sha256 in self._made or is_remembered(self._cache_folder, sha256)

    def timing_cache(self):
        """The path of TensorRT's timing cache; one that somebody else has put there is removed, as TensorRT would
        deserialise it."""
        path = self.working_path(TIMING_CACHE)
        if os.path.isfile(path) and not self.was_made_here(sha256_of_file(path)):
            os.remove(path)
        return path

    def keep_timing_cache(self):
        """Has the timing cache, as it is now, used by later builds."""
        path = self.working_path(TIMING_CACHE)
        if os.path.isfile(path):
            self._remember(sha256_of_file(path))

    def only_made_here(self):
        """Whether every engine that is listed was made here."""
        return all(self.was_made_here(entry["sha256"]) for entry in self.data["files"] if entry.get("role") == "engine")

    def begin_attempt(self, step, rung):
        """Notes that `rung` is being tried, so that a machine that dies under it does not try it forever."""
        step.setdefault("attempts", []).append({"rung": rung, "outcome": "started"})
        self.save()

    def end_attempt(self, step, found):
        """Notes how the attempt that was begun ended (dict). Does not save: the caller may have more to change."""
        step["attempts"][-1].update({key: value for key, value in found.items() if value is not None})

    def add_engine(self, step, built, details):
        """Moves the engine `built` into its place and marks `step` done."""
        relative = self.part(step)["file"]
        target = self.writable_path(relative, "engine")
        flush(built)
        entry = {"path": relative, "bytes": os.path.getsize(built), "sha256": sha256_of_file(built), "role": "engine"}
        self._remember(entry["sha256"])
        os.replace(built, target)
        self.list_file(entry)
        step["engine"] = details
        step["status"] = "done"
        self.save()

    def list_file(self, entry):
        """Puts `entry` among the manifest's files, in place of an older one of the same path."""
        others = [known for known in self.data["files"] if known["path"] != entry["path"]]
        self.data["files"] = sorted(others + [entry], key=lambda known: known["path"])

    def use_finer(self, step, parts):
        """Puts smaller parts in the place of `step`'s part, each with a step of its own that is pending."""
        entries = self.data["components"][step["component"]]["parts"]
        place = entries.index(self.part(step))
        step["was"] = entries[place]
        entries[place:place + 1] = parts
        step["status"] = "done"
        step["replaced_by"] = [part["name"] for part in parts]
        place = self.steps.index(step) + 1
        self.steps[place:place] = [_step_of(step, part, len(parts)) for part in parts]
        self.save()

    def use_onnxruntime(self, step):
        """Has `step`'s part run its graph in ONNX Runtime on the GPU."""
        entries = self.data["components"][step["component"]]["parts"]
        part = self.part(step)
        step["was"] = part
        changed = {key: value for key, value in part.items() if key != "source"}
        entries[entries.index(part)] = dict(changed, form="onnx", provider="cuda", file=part["source"])
        step["status"] = "done"
        self.save()

    def start_again(self):
        """Makes every step pending that still stands for a part; what was built is no part of the bundle any more."""
        made = {step.get("embedded") for step in self.steps}
        self.data["files"] = [entry for entry in self.data["files"]
                              if entry.get("role") != "engine" and entry["path"] not in made]
        for step in self.steps:
            if "replaced_by" in step or not step["ladder"]:  # others stand for it; or it was built before it came here
                continue
            if "was" in step:
                entries = self.data["components"][step["component"]]["parts"]
                entries[entries.index(self.part(step))] = step.pop("was")
            step["status"] = "pending"
            for key in ("attempts", "engine", "embedded"):
                step.pop(key, None)
        for key in ("verified", "timing"):
            self.finish.pop(key, None)
        self.save()

    def save(self):
        """Writes the manifest: whole, or not at all."""
        text = json.dumps(self.data, indent=1, sort_keys=True) + "\n"
        if self._was_made_here:
            self._remember(sha256_of_text(text))
        write_whole(self.path, text)
        flush(self.root)

    def _remember(self, sha256):
        self._made.add(sha256)
        if self._cache_folder is not None:
            remember(self._cache_folder, sha256)


def _no_link(path):
    if os.path.islink(path):
        raise BundleProblem("%s is a symbolic link, and finish writes there" % path, OUTSIDE)
    return path


def check_steps(manifest):
    """Raises BundleProblem where a step is of no part of the bundle, or names a file that is not in it."""
    for index, step in enumerate(manifest.finish.get("steps") or []):
        place = "%s: finish.steps[%d]" % (manifest.path, index)
        if step["component"] not in manifest.components:
            raise BundleProblem("%s lacks a component of the bundle" % place, REBUILD)
        if any(attempt["rung"] >= len(step["ladder"]) for attempt in step.get("attempts") or []):
            raise BundleProblem("%s has an attempt on a rung that its ladder lacks" % place, REBUILD)
        if step["status"] == "done":
            continue
        sources = [part.source for part in manifest.components[step["component"]].parts if part.name == step["part"]]
        sources = sources or [""]  # no such part
        finer = [part for rung in step["ladder"] for part in rung.get("finer", [])]
        for source in sources + [part.get("source") for part in finer]:
            if not source or not os.path.isfile(manifest.listed_path(source)):
                raise BundleProblem("%s: part %s has no graph %sto build an engine from" % (
                    place, step["part"], source and source + " "), "copy the bundle again whole")
        for part in finer:
            manifest.file_path(part["file"])
    for name, relative in (manifest.finish.get("reference") or {}).items():
        if name not in manifest.components:
            message = "%s: finish.reference names %s, which the bundle lacks" % (manifest.path, name)
            raise BundleProblem(message, REBUILD)
        manifest.listed_path(relative)


def _step_of(step, part, count):
    """The step of a finer part: the rungs of the whole part that it can use, and its share of the weights."""
    rungs = [dict(rung) for rung in step["ladder"] if "finer" not in rung]
    weights_bytes = part.get("weights_bytes") or (step.get("weights_bytes") or 0) // count
    saved = (step.get("weights_bytes") or 0) - weights_bytes
    return {
        "component": step["component"], "part": part["name"], "status": "pending", "ladder": rungs,
        "weights_bytes": weights_bytes, "embed": False,
        # Without what the weights that are not there would take once; the builder holds them more often.
        "peak_bytes": part.get("peak_bytes") or max((step.get("peak_bytes") or 0) - saved, 0),
    }
