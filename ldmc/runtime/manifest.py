"""Reading and checking a bundle's manifest.json. The reader owns the format, so its version is here.

    NAME.TARGET.ldmc/
        manifest.json                 what this module reads
        unet/ decoder/ ...            the files the manifest lists, with size and SHA-256
"""

import copy
import os

from .checks.inventory import refuse_problems
from .checks.kinds import REBUILD
from .checks.paths import OUTSIDE, inside, is_inside
from .checks.schema import SCHEMA_VERSION, check_schema
from .checks.strict_json import read_json
from .errors import BundleProblem

__all__ = ["MANIFEST_NAME", "REBUILD", "SCHEMA_VERSION", "ComponentEntry", "Manifest", "PartEntry", "Tensor",
           "check_files", "read_manifest"]

MANIFEST_NAME = "manifest.json"


class Tensor(object):
    """Name, dtype (numpy's name) and static shape (tuple of ints) of one input or output."""

    def __init__(self, data):
        self.name = data["name"]
        self.dtype = data["dtype"]
        self.shape = tuple(data["shape"])

    def __str__(self):
        return "%s %s%s" % (self.name, self.dtype, list(self.shape))


class PartEntry(object):
    """One file that runs: `name` (`unet` or `unet.0`), `form` (its engine), `file` (relative to the bundle), `inputs`,
    `outputs`, `source`: the ONNX file an engine is built from ("" where it is not carried), `provider`: what an ONNX
    part runs on ("" for the CPU, or `cuda`), `weights_bytes`: what it reads of the weights file that parts share (None
    where not known), `compiled`: what machine code needs to run (see `backends.aoti`; {} for other forms), and `ops`:
    operators of the component it is of (type -> count)."""

    def __init__(self, data, ops):
        self.name = data["name"]
        self.form = data["form"]
        self.file = data["file"]
        self.source = data.get("source") or ""
        self.provider = data.get("provider") or ""
        self.weights_bytes = data.get("weights_bytes")
        self.compiled = data.get("compiled") or {}
        self.ops = ops
        self.inputs = [Tensor(entry) for entry in data["inputs"]]
        self.outputs = [Tensor(entry) for entry in data["outputs"]]


class ComponentEntry(object):
    """One component: `name`, `form`, `parts` (PartEntry, in running order; tensors pass between them by name),
    `inputs`, `outputs`, `ops` (type -> count)."""

    def __init__(self, name, data):
        self.name = name
        self.form = data["form"]
        self.inputs = [Tensor(entry) for entry in data["inputs"]]
        self.outputs = [Tensor(entry) for entry in data["outputs"]]
        self.ops = (data.get("stats") or {}).get("ops") or {}
        self.parts = [PartEntry(part, self.ops) for part in data["parts"]]


class Manifest(object):
    """A manifest that has every key the runtime reads.

    Attributes: `root` (bundle folder), `path` (of manifest.json), `data` (the whole JSON object), `sha256` (of the file
    manifest.json), `name`, `target`, `components` (name -> ComponentEntry), `scheduler` (dict), `files` (list of dicts:
    path, bytes, sha256, role), `listed` (path -> its line of `files`),
    `load` ("together" or "one-at-a-time"), `power` (what its target's power is read from; "" where nothing is known, as
    in older bundles), `finish` (what is left to do on the device; {} where nothing ever was).
    """

    def __init__(self, root, data, sha256):
        self.root = root
        self.sha256 = sha256
        self.path = os.path.join(root, MANIFEST_NAME)
        self.data = data
        self.name = data["name"]
        self.target = data["target"]
        self.components = {name: ComponentEntry(name, entry) for name, entry in data["components"].items()}
        self.scheduler = data["scheduler"]
        self.files = data["files"]
        self.listed = {entry["path"]: entry for entry in self.files}
        self.load = data.get("load", "together")
        self.power = data.get("power") or ""
        self.finish = data.get("finish") or {}

    def of_sources(self):
        """This manifest with the ONNX graphs that engines are built from in place of the engines.

        Raises: BundleProblem where a part does not carry its graph.
        """
        data = copy.deepcopy(self.data)
        for component in data["components"].values():
            for part in component["parts"]:
                if part["form"] != "engine":
                    continue
                if not part.get("source"):
                    message = "%s carries the engine of %s and not its graph" % (self.root, part["name"])
                    raise BundleProblem(message, "run it on the GPU it was built for")
                part.update(form="onnx", file=part["source"])
            component["form"] = "onnx"
        return Manifest(self.root, data, self.sha256)

    @property
    def placeholder_weights(self):
        """Whether the weights are random numbers, so that every picture is noise."""
        weights = (self.data.get("source") or {}).get("weights") or {}
        return weights.get("kind") == "placeholder"

    def requirement(self, package):
        """The version the bundle asks of `package`, such as `>=1.16`; empty where it asks none."""
        packages = (self.data.get("requirements") or {}).get("packages") or {}
        return packages.get(package, "")

    def file_path(self, relative, root=None):
        """Where a path of the manifest lies on this machine (under `root`). Refuses one that leaves the bundle."""
        return inside(root or self.root, relative, self.path)

    def listed_path(self, relative):
        """Where a file that is to be read lies. Refuses one that leaves the bundle or that `files` does not list."""
        path = self.file_path(relative)
        if relative not in self.listed:
            raise BundleProblem("%s names the file %r, which its files do not list" % (self.path, relative), REBUILD)
        return path


def read_manifest(path):
    """Reads and checks the manifest of the bundle folder at `path`.

    Returns: Manifest.
    Raises: BundleProblem where there is no bundle, the manifest is not strict JSON, lacks a key, has a value out of its
        range, is of a newer schema, or names a file that leaves the bundle or is not listed.
    """
    root = os.path.abspath(str(path))
    if not os.path.isdir(root):
        what = "is a file, not a bundle folder" if os.path.exists(root) else "does not exist"
        raise BundleProblem("%s %s" % (root, what), "give the path of a folder NAME.TARGET.ldmc made by `ldmc build`")
    where = os.path.join(root, MANIFEST_NAME)
    if not os.path.exists(where):
        message = "%s is no bundle: it has no %s" % (root, MANIFEST_NAME)
        raise BundleProblem(message, "give the path of a folder NAME.TARGET.ldmc made by `ldmc build`; if this was "
                            "one, copy it again whole")
    if not is_inside(where, root):
        raise BundleProblem("%s is a symbolic link that leaves the bundle" % where, OUTSIDE)
    data, sha256 = read_json(where, fix=REBUILD)
    check_schema(data, where)
    manifest = Manifest(root, data, sha256)
    for relative in manifest.listed:
        manifest.file_path(relative)
    for component in manifest.components.values():
        for part in component.parts:
            _check_part(manifest, part)
    if MANIFEST_NAME in manifest.listed:
        raise BundleProblem("%s lists itself among its files" % where, REBUILD)
    return manifest


def _check_part(manifest, part):
    """What a part is read from is listed; an engine need not be there yet."""
    if part.form == "engine" and part.file not in manifest.listed:
        manifest.file_path(part.file)
    else:
        manifest.listed_path(part.file)
    if part.source:
        manifest.listed_path(part.source)


def check_files(root, manifest, exit_code=1):
    """Checks every file the manifest lists: it is there and has its size.

    Args: root: the bundle folder the files are looked for in. manifest: Manifest.
    Raises: BundleProblem naming the first five problems and how many there are, with `exit_code`.
    """
    problems = []
    for entry in manifest.files:
        problem = _file_problem(manifest.file_path(entry["path"], root), entry)
        if problem:
            problems.append("%s %s" % (entry["path"], problem))
    refuse_problems(root, problems, exit_code)


def _file_problem(path, entry):
    if not os.path.isfile(path):
        return "is missing"
    actual_bytes = os.path.getsize(path)
    if actual_bytes != entry["bytes"]:
        return "has %d bytes, expected %d" % (actual_bytes, entry["bytes"])
    return ""
