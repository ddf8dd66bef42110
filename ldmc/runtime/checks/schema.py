"""What the manifest holds, key by key, with the range of each: what no bundle has is rejected before it is used.

Keys that only the compiler's commands read are optional here, and checked where they are there.
"""

from ..errors import BundleProblem
from .kinds import (REBUILD, Anything, Fields, Flag, Items, Maybe, Number, OneOf, Table, Text, Whole, refuse)

SCHEMA_VERSION = 2

MOST_COMPONENTS = 16
MOST_PARTS = 1000
MOST_TENSORS = 1000
MOST_FILES = 20000
MOST_AXES = 8
MOST_ELEMENTS = 1 << 31  # of one tensor
MOST_TIMESTEPS = 100000
MOST_BYTES = 1 << 53

# A component and a part give their names to files; a tensor has the name that an exporter gave it.
NAME = Text(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", "letters, digits and _ . + -, not a sign first", 100)
LABEL = Text(r"[^\x00-\x1f\x7f-\x9f]+", "a string without control characters", 1000)
PATH = Text(r"[^\x00-\x1f\x7f]*", "a path without control characters", 1000)
SHA256 = Text(r"[0-9A-Fa-f]{64}", "64 hexadecimal digits")
WORDS = Text()
BYTES = Whole(0, MOST_BYTES)
COUNT = Whole(0, MOST_BYTES)
DTYPE = OneOf("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
              "bool")
LOADS = ("together", "one-at-a-time")
TACTIC_SOURCES = ("cublas", "cublas_lt", "cudnn")
STATUSES = ("pending", "done", "failed")


class Shape(object):
    """A static shape whose tensor can be allocated."""

    def check(self, value, place, where):
        """See `kinds`."""
        if not isinstance(value, list) or not value or not all(type(size) is int and size > 0 for size in value):
            refuse(value, place, where, "a list of positive integers")
        if len(value) > MOST_AXES:
            refuse(value, place, where, "at most %d axes" % MOST_AXES)
        elements = 1
        for size in value:
            elements *= size
            if elements > MOST_ELEMENTS:
                refuse(value, place, where, "at most %d elements" % MOST_ELEMENTS)


class Scheduler(object):
    """Flags, names, finite numbers and lists of them; which of them make sense together, the sampler says."""

    _kinds = Fields({}, {
        "type": LABEL,
        "num_train_timesteps": Whole(1, MOST_TIMESTEPS),
        "steps_offset": Whole(0, MOST_TIMESTEPS),
        "beta_start": Number(0, 1), "beta_end": Number(0, 1),
        "trained_betas": Maybe(Items(Number(0, 1), MOST_TIMESTEPS)),
        "clip_sample_range": Maybe(Number(0, 1e6)),
    })

    def check(self, value, place, where):
        """See `kinds`."""
        self._kinds.check(value, place, where)
        for key in sorted(value):
            values = value[key] if isinstance(value[key], list) else [value[key]]
            if len(values) > MOST_TIMESTEPS or any(isinstance(item, (dict, list)) for item in values):
                refuse(value[key], "%s.%s" % (place, key), where, "one value, or a list of at most %d" % MOST_TIMESTEPS)


TENSORS = Items(Fields({"name": LABEL, "dtype": DTYPE, "shape": Shape()}), MOST_TENSORS)
COMPILED = Fields({"torch": LABEL, "device": OneOf("cpu", "cuda"), "machine": LABEL, "capability": LABEL})


class Part(object):
    """One part; what is compiled to machine code says for what."""

    _kinds = Fields({"name": NAME, "form": NAME, "file": PATH, "inputs": TENSORS, "outputs": TENSORS}, {
        "source": Maybe(PATH), "provider": Maybe(OneOf("", "cpu", "cuda")), "weights_bytes": Maybe(BYTES),
        "peak_bytes": Maybe(BYTES), "compiled": Maybe(Fields({}))})
    _suffixes = {"onnx": ".onnx", "engine": ".engine"}

    def check(self, value, place, where):
        """See `kinds`."""
        self._kinds.check(value, place, where)
        if value["form"] == "aoti":
            COMPILED.check(value.get("compiled") or {}, place + ".compiled", where)
        for key, form in (("file", value["form"]), ("source", "onnx")):
            suffix = self._suffixes.get(form, "")
            if value.get(key) and not value[key].endswith(suffix):
                refuse(value[key], "%s.%s" % (place, key), where, "a name that ends in %s" % suffix)


PART = Part()
STATS = Fields({}, {"nodes": COUNT, "params": COUNT, "bytes": BYTES, "macs": Maybe(Number(0, 1e30)),
                    "ops": Table(LABEL, COUNT, MOST_PARTS), "peak_activation_bytes": Maybe(BYTES)})
ENGINE = Fields({"part": NAME, "layers": COUNT, "weights_bytes": Maybe(BYTES), "activation_bytes": Maybe(BYTES),
                 "module": LABEL, "tensorrt": LABEL, "compute_capability": Maybe(LABEL)})
COMPONENT = Fields({"form": NAME, "parts": Items(PART, MOST_PARTS, 1), "inputs": TENSORS, "outputs": TENSORS},
                   {"stats": STATS, "engine": Items(ENGINE, MOST_PARTS)})
FILE = Fields({"path": PATH, "bytes": BYTES, "sha256": SHA256}, {"role": LABEL})

RUNG = Fields({}, {"workspace_bytes": Maybe(BYTES), "tactic_sources": Maybe(Items(OneOf(*TACTIC_SOURCES), 8)),
                   "finer": Items(PART, MOST_PARTS, 1), "fallback": OneOf("onnxruntime-cuda")})
ATTEMPT = Fields({"rung": Whole(0, 100), "outcome": LABEL}, {"reason": Maybe(WORDS)})
STEP = Fields({"component": NAME, "part": NAME, "status": OneOf(*STATUSES), "ladder": Items(RUNG, 100)}, {
    "embed": Flag(),
    "weights_bytes": Maybe(BYTES), "peak_bytes": Maybe(BYTES), "was": PART, "embedded": PATH,
    "attempts": Items(ATTEMPT, 1000), "earlier_attempts": Items(ATTEMPT, 10000),
    "replaced_by": Items(NAME, MOST_PARTS), "engine": Fields({}, {"tensorrt": Maybe(LABEL)}),
    "embed_argv": Items(WORDS, 100)})
FINISH = Fields({}, {
    "device": Fields({}, rest=Maybe(WORDS)), "libraries_bytes": Maybe(BYTES), "needed_snr_db": Maybe(Number(-1e3, 1e3)),
    "reference": Table(NAME, PATH, MOST_COMPONENTS), "steps": Items(STEP, MOST_PARTS),
    "verified": Table(NAME, Table(LABEL, Anything(), 10), MOST_COMPONENTS), "timing": Maybe(Fields({}))})

WEIGHTS = Fields({}, {"kind": LABEL, "seed": Maybe(Whole(0, MOST_BYTES)), "files": Items(FILE, MOST_FILES)})
INSERTION = Fields({"component": NAME, "spec": LABEL, "reason": WORDS})
STAGE = Fields({}, {"component": NAME, "pass": LABEL, "report": Maybe(PATH), "status": LABEL,
                    "nodes_before": Maybe(COUNT), "nodes_after": Maybe(COUNT)})
MANIFEST = Fields({
    "name": LABEL, "target": LABEL, "components": Table(NAME, COMPONENT, MOST_COMPONENTS), "scheduler": Scheduler(),
    "files": Items(FILE, MOST_FILES, 1),
}, {
    "finish": FINISH, "load": OneOf(*LOADS), "power": Maybe(WORDS),
    "pipeline": Table(NAME, LABEL, MOST_COMPONENTS), "insertions": Items(INSERTION, MOST_PARTS),
    "stages": Items(STAGE, MOST_PARTS), "toolchain": Table(LABEL, WORDS, 1000),
    "requirements": Fields({}, {"python": LABEL, "packages": Table(LABEL, WORDS, 1000)}),
    "source": Fields({}, {"model": WORDS, "kind": LABEL, "config_sha256": SHA256, "weights": WEIGHTS}),
})


def check_schema(data, where):
    """Holds the data of a manifest to what is written above. Raises BundleProblem, which names `where` and the key."""
    if not isinstance(data, dict):
        raise BundleProblem("%s holds %s where an object is expected" % (where, type(data).__name__), REBUILD)
    version = data.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise BundleProblem("%s has no schema_version (found %.60r)" % (where, version), REBUILD)
    if version < SCHEMA_VERSION:
        message = "%s has schema_version %d, of an older ldmc; this runtime reads %d" % (where, version, SCHEMA_VERSION)
        raise BundleProblem(message, REBUILD)
    if version > SCHEMA_VERSION:
        message = "%s has schema_version %d; this runtime reads up to %d" % (where, version, SCHEMA_VERSION)
        raise BundleProblem(message, "upgrade ldmc, or use the runtime inside the bundle")
    MANIFEST.check(data, "", where)
    for name in sorted(data["components"]):
        _check_distinct([part["name"] for part in data["components"][name]["parts"]],
                        "components.%s.parts" % name, where)
    _check_distinct([entry["path"] for entry in data["files"]], "files", where)


def _check_distinct(names, place, where):
    seen = set()
    for name in names:
        if name in seen:
            raise BundleProblem("%s: %s lists %r twice" % (where, place, name), REBUILD)
        seen.add(name)
