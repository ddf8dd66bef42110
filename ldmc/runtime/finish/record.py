"""The manifest as `finish` changes it: every change is on the disk, whole, before the next thing starts."""

import io
import json
import os

from ..digest import sha256_of_file
from ..errors import BundleProblem
from ..files import flush, write_whole
from ..manifest import MANIFEST_NAME, REBUILD

FOLDER = ".finish"  # requests, logs, the timing cache and the lock; nothing the bundle needs


class Record(object):
    """The manifest's JSON, changed in place and saved whole.

    Attributes: `root` (bundle folder), `folder` (working folder), `data`, `finish`, `steps`.
    """

    def __init__(self, root):
        self.root = root
        self.path = os.path.join(root, MANIFEST_NAME)
        self.folder = os.path.join(root, FOLDER)
        self.reload()

    def reload(self):
        """Reads the manifest anew: after waiting for the lock it may be another's."""
        with io.open(self.path, encoding="utf-8") as stream:
            self.data = json.load(stream)
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
        """A path in the working folder, which is made."""
        if not os.path.isdir(self.folder):
            os.mkdir(self.folder)
        return os.path.join(self.folder, name)

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
        target = os.path.join(self.root, *relative.split("/"))
        flush(built)
        entry = {"path": relative, "bytes": os.path.getsize(built), "sha256": sha256_of_file(built), "role": "engine"}
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
        write_whole(self.path, json.dumps(self.data, indent=1, sort_keys=True) + "\n")
        flush(self.root)


def check_steps(manifest):
    """Raises BundleProblem where a step lacks what it needs, or names a file outside the bundle or not in it."""
    for index, step in enumerate(manifest.finish["steps"]):
        place = "%s: finish.steps[%d]" % (manifest.path, index)
        missing = [key for key in ("component", "part", "status", "ladder") if key not in step]
        if missing or step["component"] not in manifest.components:
            raise BundleProblem("%s lacks %s" % (place, ", ".join(missing) or "a component of the bundle"), REBUILD)
        if step["status"] == "done":
            continue
        sources = [part.source for part in manifest.components[step["component"]].parts if part.name == step["part"]]
        sources = sources or [""]  # no such part
        finer = [part for rung in step["ladder"] for part in rung.get("finer", [])]
        for source in sources + [part.get("source") for part in finer]:
            if not source or not os.path.isfile(manifest.file_path(source)):
                raise BundleProblem("%s: part %s has no graph %sto build an engine from" % (
                    place, step["part"], source and source + " "), "copy the bundle again whole")
        for part in finer:
            manifest.file_path(part["file"])


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
