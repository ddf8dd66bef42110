"""Embeds a built engine in a TorchScript module, with torchtrtc: what torch.jit.load then runs.

    torchtrtc unet/model.engine unet/model.ts --embed-engine --device-type=gpu

torchtrtc is part of Torch-TensorRT and not on PATH after a pip install. It must be linked against the very TensorRT
that built the engine: that is asked of the loader (ldd), because the tool itself does not say.
Source: https://docs.pytorch.org/TensorRT/tutorials/torchtrtc.html
"""

import os
import re
import shutil
import subprocess

from ..checks.paths import is_inside
from ..digest import sha256_of_file
from ..errors import BundleProblem
from ..versions import release

TOOL = "torchtrtc"
INSTALL = "install Torch-TensorRT built against this machine's TensorRT, and put its bin folder on PATH"
# It orders inputs and outputs by what stands behind the first dot, or else the first underscore.
NUMBERED = re.compile(r"[^._]*[._]\d+$")
LIBRARY = re.compile(r"libnvinfer\.so[\d.]*\s*=>\s*(\S+)")
VERSION = re.compile(r"libnvinfer\.so\.(\d+(?:\.\d+)*)$")


def argv(part):
    """The command, with paths relative to the bundle. It is made here: a manifest may come from anybody."""
    return [TOOL, part["file"], os.path.splitext(part["file"])[0] + ".ts", "--embed-engine", "--device-type=gpu"]


def embed(record, step, say):
    """Runs the step's command and lists what it made in the manifest.

    Raises: BundleProblem where the tool is missing, is of another TensorRT, refuses, or could not tell names apart.
    """
    part = record.part(step)
    command = argv(part)
    names = [tensor["name"] for tensor in part["inputs"] + part["outputs"]]
    unnumbered = [name for name in names if not NUMBERED.match(name)]
    if unnumbered:
        raise BundleProblem("part %s cannot be embedded: torchtrtc orders tensors by number, and %s has none" % (
            step["part"], unnumbered[0]), "embed a component that was not partitioned")
    relative = command[2]
    made = record.writable_path(relative, "torchscript")
    tool = program(TOOL, record.root)
    if tool is None:
        message = "part %s is to be embedded and there is no %s on PATH" % (step["part"], TOOL)
        raise BundleProblem(message, INSTALL)
    _check_version(tool, step, record.root)
    done = subprocess.run([tool] + command[1:], cwd=record.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode or not os.path.isfile(made):
        said = (done.stdout.decode("utf-8", "replace").strip() or "no output").splitlines()[-1]
        raise BundleProblem("`%s` failed (exit code %d): %s" % (" ".join(command), done.returncode, said))
    record.list_file({"path": relative, "bytes": os.path.getsize(made), "sha256": sha256_of_file(made),
                      "role": "torchscript"})
    step["embedded"] = relative
    record.save()
    say("%s: embedded in %s" % (step["part"], relative))


def program(name, root):
    """The program `name` on PATH; None where there is none, or where PATH leads into the bundle itself."""
    found = shutil.which(name)
    return None if found is None or is_inside(found, root) else found


def _check_version(tool, step, root):
    """torchtrtc is linked against the TensorRT that built the engine."""
    built = (step.get("engine") or {}).get("tensorrt") or ""
    found = linked_version(tool, root)
    if not found:
        raise BundleProblem("cannot tell which TensorRT %s is linked against: ldd names no libnvinfer" % tool, INSTALL)
    if release(built)[:3] != release(found)[:3]:
        raise BundleProblem("%s is linked against TensorRT %s and the engine of %s was built by %s" % (
            tool, found, step["part"], built), INSTALL)


def linked_version(tool, root):
    """`8.2.1` of the libnvinfer that `tool` is linked against; "" where the loader does not say."""
    ldd = program("ldd", root)
    if ldd is None:
        return ""
    try:
        done = subprocess.run([ldd, tool], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    match = LIBRARY.search(done.stdout.decode("utf-8", "replace"))
    version = VERSION.search(os.path.realpath(match.group(1))) if match else None
    return version.group(1) if version else ""
