"""ONNX Runtime on the CPU, with weights that stay mapped from their file.

First load:  model.onnx --optimise--> optimized-KEY/model.onnx (+ .data) --drop, reopen-->  session
Later loads:                          optimized-KEY/model.onnx (+ .data) ---------open--->  session

The saved graph is opened with optimisation off and without packing weights, so nothing copies them:
the 1.05 GiB UNet then holds about 30 MiB of private memory instead of 1.2 GiB, and opens in 0.2 s
instead of 5 to 13. Quantised graphs keep packing: without it their kernels are four times slower.
"""

import os
import posixpath
import shutil

from .. import memory
from ..errors import BundleProblem, first_line
from ..onnx_runtime import import_onnxruntime
from ..versions import release
from .cpu_identity import cpu_identity
from .graph_cache import GraphCache

FIRST_THAT_SAVES = (1, 16)  # session.optimized_model_external_initializers_* are ignored before
EXTERNAL_FROM_BYTES = 1024
# "All" lays convolutions out for this CPU: 8% faster on the full UNet, 17% on its decoder, but while optimising it
# holds the weights in memory once more (1.25 GiB against 0.3). "Extended" leaves them mapped.
FAST_LEVEL = "ORT_ENABLE_ALL"
LEAN_LEVEL = "ORT_ENABLE_EXTENDED"
# A bundle whose components are loaded one at a time is made for little memory, and gets the lean one.
FAST_NEEDS = 3  # times the weights, of all memory there is
QUANTIZED_OPS = frozenset([
    "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear"])


class OnnxRuntimeComponent(object):
    """One component in one ONNX Runtime session."""

    def __init__(self, session, entry):
        self._session = session
        self._input_names = [tensor.name for tensor in entry.inputs]
        self._output_names = [tensor.name for tensor in entry.outputs]
        self._name = entry.name

    def run(self, arrays):
        """Outputs for `arrays`, both in the manifest's order. Raises BundleProblem where the engine fails."""
        try:
            return self._session.run(self._output_names, dict(zip(self._input_names, arrays)))
        except Exception as problem:  # the engine's errors share no narrower base
            raise BundleProblem("ONNX Runtime failed to run component %s: %s" % (self._name, first_line(problem)))

    def close(self):
        """Drops the session and its memory."""
        self._session = None
        memory.give_back_freed()


def check(manifest, parts):
    """See `backends`."""
    _import_engine(manifest)


def open_part(manifest, part, options, remarks):
    """See `backends`."""
    return OnnxRuntimeComponent(_Opener(manifest, part, options).open(remarks), part)


class _Opener(object):
    """Opens the session of one component: from the saved graph, making it first, or without one."""

    def __init__(self, manifest, entry, options):
        self._engine = _import_engine(manifest)
        self._manifest = manifest
        self._entry = entry
        self._wanted = options
        self._model_path = manifest.listed_path(entry.file)
        self._files = _files(manifest, entry)
        self._bytes = sum(f["bytes"] for f in self._files) if entry.weights_bytes is None else entry.weights_bytes
        self._level = LEAN_LEVEL if manifest.load == "one-at-a-time" else _saved_level(self._bytes)
        record = options.vouched.record if options.vouched is not None and options.cache else None
        self._cache = None
        if record is not None and record.is_kept:  # else the loader has said so
            self._cache = GraphCache(self._model_path, self._key(), record, posixpath.dirname(entry.file))

    def open(self, remarks):
        if self._cache is None:
            return self._open_original()
        if release(self._engine.__version__) < FIRST_THAT_SAVES:
            remarks.append("%s: ONNX Runtime %s cannot save its optimised graph apart from the weights; from 1.16 on, "
                           "loading takes less time and memory" % (self._entry.name, self._engine.__version__))
            return self._open_original()
        session = self._open_saved()
        if session is not None:
            return session
        try:
            return self._make_and_open()
        except (OSError, BundleProblem) as problem:
            reason = getattr(problem, "strerror", None) or str(problem)
            remarks.append("%s: the optimised graph could not be saved in %s (%s); loading takes longer each time and "
                           "calls are slower" % (self._entry.name, self._cache.path, reason))
        return self._open_original()

    def _make_and_open(self):
        with self._cache.locked() as held:
            session = self._open_saved()  # another process may have made it while this one waited
            if session is None:
                self._require_space()
                self._cache.make(self._save_optimised)
                session = self._open_saved()
            if session is None:
                self._cache.discard()
                raise BundleProblem("the saved graph could not be opened again")
            if held:
                self._cache.remove_others()
            return session

    def _open_saved(self):
        if not self._cache.is_whole(hashes=self._wanted.verify):
            return None
        try:
            return self._session(self._cache.model_path, self._options("ORT_DISABLE_ALL"))
        except BundleProblem:
            return None

    def _open_original(self):
        return self._session(self._model_path, self._options(LEAN_LEVEL))

    def _save_optimised(self, path):
        options = self._options(self._level)
        options.optimized_model_filepath = path
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(prefix + "file_name", os.path.basename(path) + ".data")
        options.add_session_config_entry(prefix + "min_size_in_bytes", str(EXTERNAL_FROM_BYTES))
        self._session(self._model_path, options)  # dropped at once: only the saved file is wanted
        memory.give_back_freed()

    def _options(self, level):
        options = self._engine.SessionOptions()
        options.graph_optimization_level = getattr(self._engine.GraphOptimizationLevel, level)
        options.log_severity_level = 4  # fatal: an error is raised, and told once, without the colours of its log
        if self._wanted.threads is not None:
            options.intra_op_num_threads = self._wanted.threads
        if self._wanted.keep_buffers:
            # With a pattern, the second call plans one block beside the ones the first call made, and keeps both:
            # 283 MiB instead of 167 for the full UNet, and no faster.
            options.enable_mem_pattern = False
        else:
            options.enable_cpu_mem_arena = False
            memory.map_large_blocks()
        if not QUANTIZED_OPS.intersection(self._entry.ops):
            options.add_session_config_entry("session.disable_prepacking", "1")
        return options

    def _session(self, path, options):
        try:
            return self._engine.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # the engine's errors share no narrower base
            wanted = self._manifest.requirement("onnxruntime")
            message = "ONNX Runtime %s cannot load %s: %s" % (self._engine.__version__, path, first_line(problem))
            raise BundleProblem(message, _install_hint(wanted))

    def _require_space(self):
        needed = self._bytes
        if self._entry.inputs[0].dtype == "float16":
            needed *= 2  # this engine computes in float32, and saves the weights so
        free = shutil.disk_usage(self._cache.folder).free
        if free < needed:
            raise OSError(0, "it needs %d MiB of disk, %d MiB are free" % (needed >> 20, free >> 20))

    def _key(self):
        return {
            "engine": "onnxruntime %s" % self._engine.__version__,
            "cpu": cpu_identity(),
            "options": {"level": self._level, "external_from_bytes": EXTERNAL_FROM_BYTES},
            "files": {entry["path"]: entry["sha256"] for entry in self._files},
        }


def _files(manifest, entry):
    """The manifest's lines of the files a part is in: its graph, and the weights beside it that parts share."""
    folder = posixpath.dirname(entry.file)
    beside = [f for f in manifest.files if posixpath.dirname(f["path"]) == folder]
    return [f for f in beside if f["path"] == entry.file or f.get("role") == "weights"]


def _saved_level(weights_bytes):
    limit = memory.limit_bytes()
    return LEAN_LEVEL if limit is not None and limit < FAST_NEEDS * weights_bytes else FAST_LEVEL


def _import_engine(manifest):
    try:
        return import_onnxruntime()
    except Exception as problem:  # one that is half installed raises whatever it meets
        message = "%s needs ONNX Runtime, which cannot be imported: %s" % (manifest.root, first_line(problem))
        raise BundleProblem(message, _install_hint(manifest.requirement("onnxruntime")))


def _install_hint(wanted):
    return "pip install 'onnxruntime%s'" % wanted
