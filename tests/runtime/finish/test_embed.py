"""Embedding by torchtrtc: a double that takes only the flags the real one has.

Source of the flags: https://docs.pytorch.org/TensorRT/tutorials/torchtrtc.html
"""

from __future__ import annotations

import os

import pytest

from ldmc.runtime.digest import sha256_of_file
from tests.runtime.device_bundle import make_pending_bundle, read_manifest, steps_of, write_manifest

TORCHTRTC = '''
import sys
FLAGS = ("-h", "--help", "-v", "--verbose", "-w", "--warnings", "--i", "--info", "--build-debuggable-engine",
         "--use-strict-types", "--allow-gpu-fallback", "--require-full-compilation", "--disable-tf32",
         "--sparse-weights", "--embed-engine", "--save-engine")
VALUES = ("--check-method-support", "--enable-precision", "-p", "--device-type", "-d", "--gpu-id", "--dla-core",
          "--engine-capability", "--calibration-cache-file", "--teo", "--torch-executed-op", "--tem",
          "--torch-executed-mod", "--min-block-size", "--num-avg-timing-iters", "--workspace-size", "-t", "--threshold")
paths = []
for argument in sys.argv[1:]:
    name, _, value = argument.partition("=")
    if not name.startswith("-"):
        paths.append(argument)
    elif not (name in VALUES and value or name in FLAGS and not value):
        sys.exit("Flag could not be matched: " + argument)
source, target = paths
if "--embed-engine" not in sys.argv or "--device-type=gpu" not in sys.argv:
    sys.exit("the engine is to be embedded, on the gpu")
content = open(source, "rb").read()
if not content.startswith(b"ENGINE DOUBLE"):
    sys.exit("Unable to deserialize the TensorRT engine")
open(target, "wb").write(b"TORCHSCRIPT " + content[:20])
'''
LDD = 'print("\\tlibtorchtrt.so => /x/libtorchtrt.so (0x1)\\n\\tlibnvinfer.so.8 => %s (0x2)")'


@pytest.fixture
def embedding(tmp_path):
    """A bundle whose decoder is to be embedded."""
    return make_pending_bundle(tmp_path / "e.jetson-nano.ldmc", embed=True)


def add_tools(device, version="8.2.1"):
    """torchtrtc and a loader that says what it is linked against."""
    device.add_tool("torchtrtc", TORCHTRTC)
    library = device.tools / f"libnvinfer.so.{version}"
    library.write_text("")
    link = device.tools / "libnvinfer.so.8"
    link.symlink_to(library)
    device.add_tool("ldd", LDD % link)


def test_the_engine_is_embedded(nano, embedding):
    add_tools(nano)
    done = nano.finish(embedding, "--only", "decoder")
    assert (done.returncode, done.stderr) == (0, "")
    assert (embedding / "decoder" / "model.ts").read_bytes().startswith(b"TORCHSCRIPT ENGINE DOUBLE")
    assert steps_of(embedding)["decoder"]["embedded"] == "decoder/model.ts"
    [entry] = [entry for entry in read_manifest(embedding)["files"] if entry["path"] == "decoder/model.ts"]
    assert entry["role"] == "torchscript" and entry["bytes"] == 32


@pytest.mark.parametrize("recorded", [
    ["touch", "VICTIM"], ["torchtrtc", "../../x", "VICTIM", "--embed-engine", "--device-type=gpu"],
    ["/bin/sh", "-c", "touch VICTIM"], ["sh"], [],
])
def test_a_command_from_the_manifest_is_not_run(nano, embedding, tmp_path, recorded):
    """As bundles of earlier versions had one, and as anybody can write one."""
    add_tools(nano)
    victim = tmp_path / "victim"
    manifest = read_manifest(embedding)
    manifest["finish"]["steps"][2]["embed_argv"] = [word.replace("VICTIM", str(victim)) for word in recorded]
    write_manifest(embedding, manifest)
    assert nano.finish(embedding, "--only", "decoder").returncode == 0
    assert not victim.exists() and (embedding / "decoder" / "model.ts").exists()


def test_a_tool_of_the_bundle_is_not_run(nano, embedding, tmp_path):
    """With the working folder on PATH."""
    tool = embedding / "torchtrtc"
    tool.write_text("#!/bin/sh\ntouch %s\n" % (tmp_path / "victim"))
    tool.chmod(0o755)
    manifest = read_manifest(embedding)
    write_manifest(embedding, dict(manifest, files=manifest["files"] + [
        {"path": "torchtrtc", "bytes": tool.stat().st_size, "sha256": sha256_of_file(str(tool)), "role": "graph"}]))
    done = nano.finish(embedding, "--only", "decoder", PATH="." + os.pathsep + nano.environment["PATH"])
    assert done.returncode == 1 and "there is no torchtrtc on PATH" in done.stderr
    assert not (tmp_path / "victim").exists()


def test_without_the_tool(nano, embedding):
    done = nano.finish(embedding, "--only", "decoder")
    assert done.returncode == 1
    assert "part decoder is to be embedded and there is no torchtrtc on PATH\nfix:   install" in done.stderr


def test_a_tool_of_another_tensorrt(nano, embedding):
    add_tools(nano, version="8.0.3")
    done = nano.finish(embedding, "--only", "decoder")
    assert done.returncode == 1
    assert "is linked against TensorRT 8.0.3 and the engine of decoder was built by 8.2.1.8" in done.stderr
    assert not (embedding / "decoder" / "model.ts").exists()


def test_a_tool_that_says_no_tensorrt(nano, embedding):
    add_tools(nano)
    nano.add_tool("ldd", "import sys; sys.exit('not a dynamic executable')")
    done = nano.finish(embedding, "--only", "decoder")
    assert done.returncode == 1 and "cannot tell which TensorRT" in done.stderr


def test_a_part_whose_tensors_have_no_numbers(nano, embedding):
    add_tools(nano)
    manifest = read_manifest(embedding)
    manifest["finish"]["steps"][1]["embed"] = True
    write_manifest(embedding, manifest)
    done = nano.finish(embedding, "--only", "unet.1")
    assert done.returncode == 1
    assert "part unet.1 cannot be embedded: torchtrtc orders tensors by number, and hidden has none" in done.stderr
