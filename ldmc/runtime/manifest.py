"""Reading and checking a bundle's manifest.json. The reader owns the format, so its version is here.

    NAME.TARGET.ldmc/
        manifest.json                 what this module reads
        unet/ decoder/ ...            the files the manifest lists, with size and SHA-256
"""

import copy
import json
import os

from .digest import sha256_of_file
from .errors import BundleProblem
from .files import read_regular

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
REBUILD = "build the bundle again with `ldmc build`, or copy it again whole"
SHOWN_PROBLEMS = 5
MOST_BYTES = 1 << 26

_KEYS = (("name", str), ("target", str), ("components", dict), ("scheduler", dict), ("files", list))
_COMPONENT_KEYS = (("form", str), ("parts", list), ("inputs", list), ("outputs", list))
_PART_KEYS = (("name", str), ("form", str), ("file", str), ("inputs", list), ("outputs", list))
_OPTIONAL_PART_KEYS = (("weights_bytes", int), ("compiled", dict))
_COMPILED_KEYS = (("torch", str), ("device", str), ("machine", str), ("capability", str))
_TENSOR_KEYS = (("name", str), ("dtype", str), ("shape", list))
_FILE_KEYS = (("path", str), ("bytes", int), ("sha256", str))
_JSON_NAMES = {str: "a string", dict: "an object", list: "a list", int: "an integer"}


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

    Attributes: `root` (bundle folder), `path` (of manifest.json), `data` (the whole JSON object), `name`, `target`,
    `components` (name -> ComponentEntry), `scheduler` (dict), `files` (list of dicts: path, bytes, sha256, role),
    `load` ("together" or "one-at-a-time"), `power` (what its target's power is read from; "" where nothing is known, as
    in older bundles), `finish` (what is left to do on the device; {} where nothing ever was).
    """

    def __init__(self, root, data):
        self.root = root
        self.path = os.path.join(root, MANIFEST_NAME)
        self.data = data
        self.name = data["name"]
        self.target = data["target"]
        self.components = {name: ComponentEntry(name, entry) for name, entry in data["components"].items()}
        self.scheduler = data["scheduler"]
        self.files = data["files"]
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
        return Manifest(self.root, data)

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
        parts = relative.replace("\\", "/").split("/")
        if not relative or os.path.isabs(relative) or parts[0].endswith(":") or parts[0] == "" or ".." in parts:
            raise BundleProblem("%s names a file outside the bundle: %r" % (self.path, relative), REBUILD)
        return os.path.join(root or self.root, *parts)


def read_manifest(path):
    """Reads and checks the manifest of the bundle folder at `path`.

    Returns: Manifest.
    Raises: BundleProblem where there is no bundle, the manifest is not JSON, lacks a key, or is of a newer schema.
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
    try:
        data = json.loads(read_regular(where, MOST_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as problem:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise BundleProblem("%s is not JSON: %s" % (where, problem), REBUILD)
    except OSError as problem:
        raise BundleProblem("cannot read %s: %s" % (where, problem.strerror or problem), REBUILD)
    _check_schema(data, where)
    manifest = Manifest(root, data)
    for entry in manifest.files:
        manifest.file_path(entry["path"])
    for component in manifest.components.values():
        for part in component.parts:
            manifest.file_path(part.file)
    return manifest


def check_files(root, manifest, hashes=False):
    """Checks every file the manifest lists: it is there, has its size and, with `hashes`, its SHA-256.

    Args: root: the bundle folder the files are looked for in. manifest: Manifest.
    Raises: BundleProblem naming the first five problems and how many there are; exit code 5 with `hashes`, else 1.
    """
    problems = []
    for entry in manifest.files:
        problem = _file_problem(manifest.file_path(entry["path"], root), entry, hashes)
        if problem:
            problems.append("%s %s" % (entry["path"], problem))
    if not problems:
        return
    shown = "; ".join(problems[:SHOWN_PROBLEMS])
    if len(problems) > SHOWN_PROBLEMS:
        shown += "; and %d more" % (len(problems) - SHOWN_PROBLEMS)
    count = "1 file is" if len(problems) == 1 else "%d files are" % len(problems)
    message = "%s: %s not as the manifest says: %s" % (root, count, shown)
    raise BundleProblem(message, "copy the bundle again whole, or build it again", exit_code=5 if hashes else 1)


def _file_problem(path, entry, hashes):
    if not os.path.isfile(path):
        return "is missing"
    actual_bytes = os.path.getsize(path)
    if actual_bytes != entry["bytes"]:
        return "has %d bytes, expected %d" % (actual_bytes, entry["bytes"])
    if not hashes:
        return ""
    try:
        actual = sha256_of_file(path)
    except OSError as problem:
        return "cannot be read (%s)" % (problem.strerror or problem)
    if actual != entry["sha256"].lower():
        return "has SHA-256 %s, expected %s" % (actual, entry["sha256"])
    return ""


def _check_schema(data, where):
    if not isinstance(data, dict):
        raise BundleProblem("%s holds %s where an object is expected" % (where, type(data).__name__), REBUILD)
    version = data.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise BundleProblem("%s has no schema_version (found %r)" % (where, version), REBUILD)
    if version < SCHEMA_VERSION:
        message = "%s has schema_version %d, of an older ldmc; this runtime reads %d" % (where, version, SCHEMA_VERSION)
        raise BundleProblem(message, REBUILD)
    if version > SCHEMA_VERSION:
        message = "%s has schema_version %d; this runtime reads up to %d" % (where, version, SCHEMA_VERSION)
        raise BundleProblem(message, "upgrade ldmc, or use the runtime inside the bundle")
    _check_keys(data, _KEYS, where, "")
    for name in sorted(data["components"]):
        entry = data["components"][name]
        place = "components.%s" % name
        _check_keys(entry, _COMPONENT_KEYS, where, place)
        _check_tensors(entry, where, place)
        if "stats" in entry:
            _check_keys(entry, (("stats", dict),), where, place)
        if not entry["parts"]:
            raise BundleProblem("%s: %s.parts is empty" % (where, place), REBUILD)
        for index, part in enumerate(entry["parts"]):
            _check_keys(part, _PART_KEYS, where, "%s.parts[%d]" % (place, index))
            _check_tensors(part, where, "%s.parts[%d]" % (place, index))
            given = [(key, kind) for key, kind in _OPTIONAL_PART_KEYS if key in part]
            _check_keys(part, given, where, "%s.parts[%d]" % (place, index))
            if part["form"] == "aoti":
                own = "%s.parts[%d].compiled" % (place, index)
                _check_keys(part.get("compiled", {}), _COMPILED_KEYS, where, own)
    for index, entry in enumerate(data["files"]):
        _check_keys(entry, _FILE_KEYS, where, "files[%d]" % index)


def _check_tensors(entry, where, place):
    for side in ("inputs", "outputs"):
        for index, tensor in enumerate(entry[side]):
            own = "%s.%s[%d]" % (place, side, index)
            _check_keys(tensor, _TENSOR_KEYS, where, own)
            _check_shape(tensor["shape"], where, own)


def _check_keys(data, keys, where, place):
    if not isinstance(data, dict):
        raise BundleProblem("%s: %s is not an object" % (where, place), REBUILD)
    for key, kind in keys:
        full = "%s.%s" % (place, key) if place else key
        if key not in data:
            raise BundleProblem("%s lacks the key %s" % (where, full), REBUILD)
        if not isinstance(data[key], kind) or isinstance(data[key], bool):
            message = "%s: %s is %r, expected %s" % (where, full, data[key], _JSON_NAMES[kind])
            raise BundleProblem(message, REBUILD)


def _check_shape(shape, where, place):
    if not shape or not all(type(size) is int and size > 0 for size in shape):
        message = "%s: %s.shape is %r, expected a list of positive integers" % (where, place, shape)
        raise BundleProblem(message, REBUILD)
