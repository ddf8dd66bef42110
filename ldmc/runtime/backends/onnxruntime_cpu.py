"""ONNX Runtime on the CPU, with weights that stay mapped from their file.

First load:  model.onnx --optimise--> optimized-KEY/model.onnx (+ .data) --drop, reopen-->  session
Later loads:                          optimized-KEY/model.onnx (+ .data) ---------open--->  session

The saved graph is opened with optimisation off and without packing weights, so nothing copies them:
the 1.05 GiB UNet then holds about 30 MiB of private memory instead of 1.2 GiB, and opens in 0.2 s
instead of 5 to 13. Quantised graphs keep packing: without it their kernels are four times slower.
"""

import gc
import os
import posixpath
import shutil

from .. import memory
from ..errors import BundleProblem
from .cpu_identity import cpu_identity
from .graph_cache import GraphCache

FIRST_THAT_SAVES = (1, 16)  # session.optimized_model_external_initializers_* are ignored before
EXTERNAL_FROM_BYTES = 1024
LEVEL = "ORT_ENABLE_ALL"
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
            raise BundleProblem("ONNX Runtime failed to run component %s: %s" % (self._name, _first_line(problem)))

    def close(self):
        """Drops the session and its memory."""
        self._session = None
        gc.collect()
        memory.give_back_freed()


def open_component(manifest, entry, threads, cache, verify, remarks):
    """See `backends`. cache: save the optimised graph and use it. verify: check a saved graph's hashes too."""
    return OnnxRuntimeComponent(_Opener(manifest, entry, threads).open(cache, verify, remarks), entry)


class _Opener(object):
    """Opens the session of one component: from the saved graph, making it first, or without one."""

    def __init__(self, manifest, entry, threads):
        self._engine = _import_engine(manifest)
        self._manifest = manifest
        self._entry = entry
        self._threads = threads
        self._model_path = manifest.file_path(entry.file)
        folder = posixpath.dirname(entry.file)
        self._files = [f for f in manifest.files if posixpath.dirname(f["path"]) == folder]
        self._cache = GraphCache(os.path.dirname(self._model_path), self._key())

    def open(self, use_cache, verify, remarks):
        if not use_cache:
            return self._open_original()
        if _version(self._engine) < FIRST_THAT_SAVES:
            remarks.append("%s: ONNX Runtime %s cannot save its optimised graph apart from the weights; from 1.16 on, "
                           "loading takes less time and memory" % (self._entry.name, self._engine.__version__))
            return self._open_original()
        session = self._open_saved(verify)
        if session is not None:
            return session
        try:
            return self._make_and_open(verify)
        except (OSError, BundleProblem) as problem:
            reason = getattr(problem, "strerror", None) or str(problem)
            remarks.append("%s: the optimised graph could not be saved in %s (%s); every load will optimise it again "
                           "and hold its weights in memory" % (self._entry.name, self._cache.path, reason))
        return self._open_original()

    def _make_and_open(self, verify):
        with self._cache.locked() as held:
            session = self._open_saved(verify)  # another process may have made it while this one waited
            if session is None:
                self._require_space()
                self._cache.make(self._save_optimised)
                session = self._open_saved(verify)
            if session is None:
                self._cache.discard()
                raise BundleProblem("the saved graph could not be opened again")
            if held:
                self._cache.remove_others()
            return session

    def _open_saved(self, verify):
        if not self._cache.is_whole(verify):
            return None
        options = self._options("ORT_DISABLE_ALL")
        try:
            return self._session(self._cache.model_path, options)
        except BundleProblem:
            return None

    def _open_original(self):
        return self._session(self._model_path, self._options(LEVEL))

    def _save_optimised(self, path):
        options = self._options(LEVEL)
        options.optimized_model_filepath = path
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(prefix + "file_name", os.path.basename(path) + ".data")
        options.add_session_config_entry(prefix + "min_size_in_bytes", str(EXTERNAL_FROM_BYTES))
        self._session(self._model_path, options)  # dropped at once: only the saved file is wanted
        gc.collect()
        memory.give_back_freed()

    def _options(self, level):
        options = self._engine.SessionOptions()
        options.graph_optimization_level = getattr(self._engine.GraphOptimizationLevel, level)
        options.log_severity_level = 3  # errors; its warning on saved graphs is what the key is for
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        if not QUANTIZED_OPS.intersection(self._entry.ops):
            options.add_session_config_entry("session.disable_prepacking", "1")
        return options

    def _session(self, path, options):
        try:
            return self._engine.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # the engine's errors share no narrower base
            wanted = self._manifest.requirement("onnxruntime")
            message = "ONNX Runtime %s cannot load %s: %s" % (self._engine.__version__, path, _first_line(problem))
            raise BundleProblem(message, _install_hint(wanted))

    def _require_space(self):
        needed = sum(entry["bytes"] for entry in self._files)
        free = shutil.disk_usage(self._cache.folder).free
        if free < needed:
            raise OSError(0, "it needs %d MiB of disk, %d MiB are free" % (needed >> 20, free >> 20))

    def _key(self):
        return {
            "engine": "onnxruntime %s" % self._engine.__version__,
            "cpu": cpu_identity(),
            "options": {"level": LEVEL, "external_from_bytes": EXTERNAL_FROM_BYTES},
            "files": {entry["path"]: entry["sha256"] for entry in self._files},
        }


def _import_engine(manifest):
    try:
        import onnxruntime
    except ImportError as problem:
        message = "%s needs ONNX Runtime, which cannot be imported: %s" % (manifest.root, problem)
        raise BundleProblem(message, _install_hint(manifest.requirement("onnxruntime")))
    return onnxruntime


def _install_hint(wanted):
    return "pip install 'onnxruntime%s'" % wanted


def _version(engine):
    parts = engine.__version__.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


def _first_line(problem):
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
