"""The result of a bench as one JSON document, the same from `python3 -m runtime bench` and from `ldmc bench`.

What cannot be known is None. README's section "JSON" has the keys.
"""

import io
import os
import platform
import shutil
import subprocess
import time

from . import memory

KIND = "ldmc-bench"
SCHEMA_VERSION = 1
GETPROP_SECONDS = 5.0
# What runs a form.
ENGINES = {"onnx": "onnxruntime", "torchscript": "torch", "aoti": "torch", "engine": "tensorrt"}


def document(command, settings, model, power, levels, packages, gpu=None, interrupted=None, root="/",
             find=shutil.which):
    """The whole result.

    Args:
        command: as typed, or "". settings: dict of steps, runs, warmup, batch, threads, seed, torch_device.
        model: dict of name, weights (a phrase), parameters. power: dict of meter (its title), absent (why there is
            none), idle_watts. levels: list of `level.level_record` and what the level is.
        packages: name -> version, of what computed. gpu: its name, where levels ran on one.
        interrupted: how far it came where somebody stopped it ("after 2 of 5 drawings"), else None.
        root, find: see `this_machine`.
    """
    machine = this_machine(gpu, root, find)
    return {
        "kind": KIND, "schema_version": SCHEMA_VERSION,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command, "device": device_title(machine), "machine": machine, "packages": packages,
        "model": model, "settings": settings, "power": power, "interrupted": interrupted or None, "levels": levels,
    }


def describe_bundle(manifest):
    """The bundle's part of a level: dict of kind, bundle, target, engine (of all its parts), pipeline."""
    forms = {part.form for component in manifest.components.values() for part in component.parts}
    return {
        "kind": "bundle", "bundle": os.path.basename(manifest.root), "target": manifest.target,
        "engine": " and ".join(sorted(ENGINES.get(form, form) for form in forms)),
        "pipeline": manifest.data.get("pipeline"),
    }


def describe_model(manifest):
    """The section `model`: dict of name, weights (a phrase), parameters (None where the manifest does not say)."""
    weights = (manifest.data.get("source") or {}).get("weights") or {}
    files = len(weights.get("files") or [])
    counts = [(entry.get("stats") or {}).get("params") for entry in manifest.data["components"].values()]
    return {
        "name": manifest.name,
        "weights": "random, seed %s" % weights.get("seed") if manifest.placeholder_weights
        else "%d file%s" % (files, "" if files == 1 else "s"),
        "parameters": None if None in counts else sum(counts),
    }


def this_machine(gpu=None, root="/", find=shutil.which):
    """What the measuring machine is: dict of system, cpu, cores (that this process may use), memory_bytes, gpu.

    Args: root: where /proc is looked for. find: name of a command -> its path, or None.
    """
    return {
        "system": "%s %s %s" % (platform.system(), platform.release(), platform.machine()),
        "cpu": _board(root) or _phone(find) or _cpu(root) or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": memory.meminfo(root).get("MemTotal"),
        "gpu": gpu,
    }


def device_title(machine):
    """How a table calls the machine: its GPU where levels ran on one, else its processor and cores."""
    return machine["gpu"] or "%s, %d cores" % (machine["cpu"], machine["cores"])


def _board(root):
    """What a board calls itself, such as NVIDIA Jetson Nano Developer Kit; "" where there is no device tree."""
    try:
        with io.open(os.path.join(root, "proc/device-tree/model"), encoding="ascii", errors="replace") as stream:
            return stream.read().strip("\0 \n")
    except OSError:
        return ""


def _cpu(root):
    """The processor's name by /proc/cpuinfo, as x86 says it (`model name`) or Arm (`Hardware`)."""
    try:
        with io.open(os.path.join(root, "proc/cpuinfo"), encoding="utf-8", errors="replace") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Hardware"):
                    return " ".join(value.split())
    except OSError:
        pass
    return ""


def _phone(find):
    """What a phone calls itself, such as `samsung SM-S901B`; "" where this is no Android."""
    path = find("getprop")
    if path is None:
        return ""
    words = []
    for key in ("ro.product.manufacturer", "ro.product.model"):
        try:
            done = subprocess.run([path, key], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, timeout=GETPROP_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        words.append(done.stdout.decode("utf-8", "replace").strip())
    return " ".join(word for word in words if word)
