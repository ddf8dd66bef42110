"""Bad input gets a clear error - what, where, fix, exit code - and nothing is lost or left half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import checkpoints
from tests.checkpoints import COMPONENTS, STEM, read_state, replace_state
from tests.conftest import Outcome
from tests.patience import HANG_SECONDS
from tests.runtime.tiny_bundle import make_bundle, read_manifest_json, write_manifest

Run = Callable[..., Outcome]
UNET_WEIGHTS = Path("model") / "unet" / f"{STEM}.safetensors"


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path under `folder`, hidden ones too, with its content; what a link points to is not followed."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@dataclass(frozen=True)
class Bad:
    """One bad input: how it comes about, what is typed, and what must be said.

    prepare: changes the working folder, in which `model` is a good model and `out.ldmc` is free.
    arguments: after `ldmc build`; the target is `cpu` and the model `model` where they are not among them.
    """

    prepare: Callable[[Path], object]
    arguments: tuple[str, ...]
    code: int
    message: tuple[str, ...]
    fix: str


def nothing(_: Path) -> None:
    """The input is bad as typed."""


def change_unet(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        state = read_state(work / "model" / "unet")
        change(state)
        replace_state(work / "model" / "unet", state)

    return prepare


def shards(damage: Callable[[Path], object]) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        folder = work / "model" / "unet"
        state = read_state(folder)
        checkpoints.drop_weights(folder)
        checkpoints.write_shards(folder, state)
        damage(folder / f"{STEM}-00002-of-00003.safetensors")

    return prepare


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def pickled_and_truncated(work: Path) -> None:
    folder = work / "model" / "vqvae"
    state = read_state(folder)
    checkpoints.drop_weights(folder)
    checkpoints.write_bin(folder, state)
    truncate(folder / f"{STEM}.bin")


def without_weights(work: Path) -> None:
    for name in COMPONENTS:
        checkpoints.drop_weights(work / "model" / name)


def config(text: str) -> Callable[[Path], object]:
    return lambda work: (work / "model" / "unet" / "config.json").write_text(text)


def a_bundle(work: Path) -> None:
    make_bundle(work / "out.ldmc")


def a_folder(work: Path) -> None:
    (work / "out.ldmc").mkdir()
    (work / "out.ldmc" / "thesis.tex").write_text("precious")


OUTPUT = ("-o", "out.ldmc")
BUILDS: dict[str, Bad] = {
    "unknown pass": Bad(
        nothing, ("--passes", "fp16,onxx"), 2, ("unknown pass 'onxx'", "\n    fp16,onxx\n         ^"),
        "did you mean 'onnx'?",
    ),
    "unknown target": Bad(nothing, ("--target", "cpuu"), 2, ("unknown target 'cpuu'",), "did you mean 'cpu'?"),
    "missing target file": Bad(nothing, ("--target", "my.toml"), 2, ("there is no target file my.toml",), "cpu"),
    "broken target file": Bad(
        lambda work: (work / "my.toml").write_text("name = "),
        ("--target", "my.toml"), 2, ("my.toml is not TOML",), "mend the file",
    ),
    "unknown model": Bad(
        nothing, ("--model", "ldm-celebahq"), 2, ("unknown model 'ldm-celebahq'",),
        "did you mean 'ldm-celebahq-256'?",
    ),
    "passes out of order": Bad(
        nothing, ("--passes", "fold,onnx"), 2,
        ("pass 'fold' takes onnx form and would be given torch", "\n    fold,onnx\n    ^"),
        "put onnx before it",
    ),
    "a spec that does not parse": Bad(
        nothing, ("--passes", "onnx{opset=18"), 2,
        ("expected ',' or '}', found the end", "\n" + " " * 17 + "^"), "",
    ),
    "an empty spec": Bad(nothing, ("--passes", ""), 2, ("the pipeline is empty",), "onnx,fold"),
    "a module that does not exist": Bad(
        nothing, ("--passes", "fp16{keep=[unet/mid_blok]},onnx"), 2, ("unet has no module 'mid_blok'",),
        "did you mean unet/mid_block",
    ),
    "an option out of range": Bad(
        nothing, ("--passes", "onnx{opset=7}"), 2, ("opset=7: the exporters write opset 9 to 23",), "",
    ),
    "truncated weights": Bad(
        lambda work: truncate(work / UNET_WEIGHTS), (), 1,
        (str(UNET_WEIGHTS), "bytes) cannot be read as weights"), "download it again",
    ),
    "truncated pickle": Bad(
        pickled_and_truncated, (), 1, (f"vqvae/{STEM}.bin", "bytes) cannot be read as weights"),
        "download it again",
    ),
    "truncated shard": Bad(
        shards(truncate), (), 1, ("00002-of-00003.safetensors", "bytes) cannot be read as weights"),
        "download it again",
    ),
    "missing shard": Bad(
        shards(Path.unlink), (), 1, ("model/unet: 1 of 3 shards are missing", "00002-of-00003"),
        "beside the index",
    ),
    "wrong shape": Bad(
        change_unet(lambda state: state.update({"conv_in.weight": torch.zeros(32, 4, 3, 3)})), (), 1,
        ("model/unet: conv_in.weight has shape [32, 4, 3, 3], the network needs [32, 3, 3, 3]",),
        "give the config and weights of one model",
    ),
    "missing keys": Bad(
        change_unet(lambda state: [state.pop(key) for key in ("conv_out.bias", "conv_in.weight")]), (), 1,
        ("model/unet: 2 of ", "parameters are missing (first: conv_in.weight)"), "belong to this config.json",
    ),
    "extra keys": Bad(
        change_unet(lambda state: state.update({"ema.decay": torch.ones(1)})), (), 1,
        ("model/unet: 1 are not of this network (first: ema.decay)",), "belong to this config.json",
    ),
    "a config that is not JSON": Bad(
        config("{'_class_name': 1}"), (), 1, ("model/unet/config.json is not JSON", "line 1 column 2"),
        "mend it",
    ),
    "an empty config": Bad(config(""), (), 1, ("model/unet/config.json is not JSON",), "mend it"),
    "a config of another network": Bad(
        config('{"_class_name": "FluxTransformer2DModel"}'), (), 1,
        ("_class_name is 'FluxTransformer2DModel'",),
        "UNet2DModel",
    ),
    "a missing config": Bad(
        lambda work: (work / "model" / "model_index.json").unlink(), (), 1, ("model_index.json is missing",),
        "folder in diffusers layout",
    ),
    "no weights": Bad(without_weights, (), 1, ("model 'model' has no weights",), "--random-weights"),
    "weights asked for twice": Bad(
        nothing, ("--require-weights", "--random-weights"), 2, ("exclude each other",), "give one of them",
    ),
    "an output that exists": Bad(a_bundle, OUTPUT, 1, ("out.ldmc exists",), "--force"),
    "an output that is no bundle": Bad(a_folder, OUTPUT, 1, ("out.ldmc exists and is not a bundle",), "-o"),
    "an output that is no bundle, by force": Bad(
        a_folder, (*OUTPUT, "--force"), 1, ("out.ldmc exists and is not a bundle",), "remove it yourself",
    ),
    "an output inside a file": Bad(
        lambda work: (work / "file").write_text("precious"), ("-o", "file/out.ldmc"), 1,
        ("file/out.ldmc cannot be written: ",), "check the folder and its permissions",
    ),
    "a name that is too long": Bad(
        nothing, ("-o", "new/" + "x" * 300), 1, ("cannot be written: File name too long",), "-o",
    ),
}  # fmt: skip


@pytest.fixture
def work(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of the tiny model."""
    folder = tmp_path / "work"
    folder.mkdir()
    checkpoints.copy_model(tiny_model, folder / "model")
    monkeypatch.chdir(folder)
    return folder


def check(done: Outcome, code: int, message: tuple[str, ...], fix: str) -> None:
    """`done` ended in this error, once as JSON on stdout and once for people on stderr."""
    assert done.code == code, done.err
    error = done.json["error"]
    for part in message:
        assert part in error["message"]
        assert part in done.err
    assert fix in error["fix"]
    assert "Traceback" not in done.err
    assert "error: " in done.err


@pytest.mark.parametrize("bad", BUILDS.values(), ids=BUILDS)
def test_a_bad_build_says_what_where_and_fix_and_changes_nothing(ldmc: Run, bad: Bad, work: Path) -> None:
    bad.prepare(work)
    before = listing(work)
    given = [] if "--target" in bad.arguments else ["--target", "cpu"]
    given += [] if "--model" in bad.arguments else ["--model", "model"]
    check(ldmc("build", *given, *bad.arguments, "--json"), bad.code, bad.message, bad.fix)
    assert listing(work) == before


def test_a_weight_that_fp16_cannot_hold_is_found_while_writing_and_nothing_stays(
    ldmc: Run, work: Path
) -> None:
    change_unet(lambda state: state["mid_block.resnets.0.conv1.weight"].view(-1)[:1].fill_(1e6))(work)
    before = listing(work)
    done = ldmc(
        "build", "--target", "cpu", "--model", "model", "--passes", "fp16,onnx", "-o", "new/x.ldmc", "--json"
    )
    message = ("unet: mid_block.resnets.0.conv1.weight holds 1e+06, more than float16 can represent",)
    check(done, 1, message, "unet/mid_block.resnets.0.conv1]}")
    assert listing(work) == before


# Full and read-only disks.


@pytest.fixture
def empty_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of no components: all that is written is the runtime and the manifest, at once."""
    from ldmc.compiler import driver
    from ldmc.ir import Program

    monkeypatch.setattr(driver, "read_program", lambda *_: Program("tiny", ()))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with the given options, where that can be done."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted: list[Path] = []

    def run(options: str) -> Path:
        if os.geteuid() != 0:
            pytest.skip("mounting a small tmpfs needs root")
        command = ["mount", "-t", "tmpfs", "-o", options, "ldmc-test", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield run
    for one in mounted:
        subprocess.run(["umount", str(one)], check=True)


@pytest.mark.parametrize(
    ("passes", "file"), [("onnx", "unet/model.onnx.data"), ("torchscript", "unet/model.ts")]
)
def test_a_disk_too_small_for_the_weights(
    passes: str, file: str, ldmc: Run, work: Path, mount: Callable[[str], Path]
) -> None:
    disk = mount("size=1m")
    (disk / "precious").write_text("x")
    before = listing(disk)
    done = ldmc(
        "build", "--target", "cpu", "--model", "model", "--passes", passes, "-o", disk / "x.ldmc", "--json"
    )
    check(done, 1, (f"{file} needs ", "its disk has ", "MiB free"), "free some space, or write elsewhere")
    assert listing(disk) == before


@pytest.mark.usefixtures("empty_program")
def test_a_disk_that_fills_up_on_the_way(ldmc: Run, work: Path, mount: Callable[[str], Path]) -> None:
    disk = mount("size=24k")
    done = ldmc("build", "--target", "cpu", "--model", "model", "-o", disk / "deep" / "x.ldmc", "--json")
    check(
        done, 1, ("the disk is full: ", "deep/x.ldmc could not be written", "MiB are free"), "free some space"
    )
    assert listing(disk) == {}


@pytest.mark.usefixtures("empty_program")
def test_a_full_disk_wherever_it_cannot_be_mounted(
    ldmc: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    before = listing(work)
    done = ldmc("build", "--target", "cpu", "--model", "model", "-o", "deep/x.ldmc", "--json")
    check(done, 1, ("the disk is full: deep/x.ldmc could not be written",), "free some space")
    assert listing(work) == before


@pytest.mark.usefixtures("empty_program")
def test_a_folder_that_may_not_be_written(ldmc: Run, work: Path, mount: Callable[[str], Path]) -> None:
    if os.geteuid() == 0:
        folder, reason = mount("ro"), "Read-only file system"
    else:
        folder, reason = work / "locked", "Permission denied"
        folder.mkdir(mode=0o555)
    done = ldmc("build", "--target", "cpu", "--model", "model", "-o", folder / "x.ldmc", "--json")
    check(
        done, 1, (f"{folder / 'x.ldmc'} cannot be written: {reason}",), "check the folder and its permissions"
    )
    assert listing(folder) == {}


# Ctrl-C and SIGTERM, in a process of its own.


@pytest.mark.parametrize(
    ("kind", "moment", "replacing"),
    [(signal.SIGINT, ".x.ldmc.tmp-*", False), (signal.SIGTERM, ".x.ldmc.tmp-*/reports/unet/01-onnx.json", True)],
    ids=["Ctrl-C at the start of a new one", "SIGTERM on the way to replacing one"],
)
def test_an_interrupted_build_is_exit_130_and_leaves_nothing(
    kind: signal.Signals, moment: str, replacing: bool, work: Path
) -> None:
    output = work if replacing else work / "new" / "deep"
    arguments = ["--model", "model", "-o", str((output / "x.ldmc").relative_to(work))]
    if replacing:
        make_bundle(work / "x.ldmc")
        arguments.append("--force")
    before = listing(work)
    process = subprocess.Popen(
        [sys.executable, "-m", "ldmc", "build", "--target", "cpu", *arguments, "--json"],
        cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # as from a terminal: under nohup or in the background of a script, SIGINT would be ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    deadline = time.monotonic() + HANG_SECONDS
    while not list(output.glob(moment)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(kind)
    out, err = process.communicate(timeout=HANG_SECONDS)
    check(Outcome(process.returncode, out, err), 130, ("interrupted; nothing was left half-written",), "")
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert listing(work) == before


# Bundles that are not what they should be.


def file_gone(bundle: Path) -> None:
    (bundle / "unet" / "model.onnx.data").unlink()


def file_short(bundle: Path) -> None:
    truncate(bundle / "decoder" / "model.onnx.data")


def file_altered(bundle: Path) -> None:
    file = bundle / "unet" / "model.onnx.data"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


def manifest(**changes: Any) -> Callable[[Path], None]:
    return lambda bundle: write_manifest(bundle, {**read_manifest_json(bundle), **changes})


def without_key(key: str) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        data = read_manifest_json(bundle)
        del data[key]
        write_manifest(bundle, data)

    return damage


def replaced_by_a_file(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.write_text("not a folder")


OUTSIDE = [{"path": "../precious", "bytes": 1, "sha256": "0" * 64, "role": "graph"}]
# damage -> (how, exit code, parts of the message, part of the fix)
BUNDLES: dict[str, tuple[Callable[[Path], object], int, tuple[str, ...], str]] = {
    "missing": (shutil.rmtree, 1, ("x.ldmc does not exist",), "ldmc build"),
    "a file": (replaced_by_a_file, 1, ("x.ldmc is a file, not a bundle folder",), "ldmc build"),
    "missing file": (
        file_gone, 1, ("1 file is not as the manifest says", "unet/model.onnx.data is missing"),
        "build it again",
    ),
    "short file": (
        file_short, 1,
        ("1 file is not as the manifest says", "decoder/model.onnx.data has ", "bytes, expected "), "again",
    ),
    "no manifest": (
        lambda bundle: (bundle / "manifest.json").unlink(), 1, ("x.ldmc is no bundle: it has no manifest.json",),
        "made by `ldmc build`",
    ),
    "manifest that is not JSON": (
        lambda bundle: truncate(bundle / "manifest.json"), 1, ("manifest.json is not JSON",),
        "build the bundle again",
    ),
    "newer schema": (
        manifest(schema_version=3), 1, ("has schema_version 3; this runtime reads up to 2",), "upgrade ldmc",
    ),
    "no schema": (without_key("schema_version"), 1, ("has no schema_version",), "build the bundle again"),
    "missing key": (without_key("components"), 1, ("lacks the key components",), "build the bundle again"),
    "wrong kind": (manifest(files={}), 1, ("files is {}, expected a list",), "build the bundle again"),
    "a path outside": (manifest(files=OUTSIDE), 1, ("names a file outside the bundle: '../precious'",), "again"),
}  # fmt: skip
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "x.ldmc", "--steps", "1", "-o", "out.png"),
    "bench": ("bench", "x.ldmc", "--steps", "1", "--runs", "1"),
    "inspect": ("inspect", "x.ldmc"),
    "verify": ("verify", "x.ldmc"),
    "verify --hashes-only": ("verify", "x.ldmc", "--hashes-only"),
}


@pytest.fixture
def damaged(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of the tiny bundle, to be damaged."""
    shutil.copytree(tiny_bundle, tmp_path / "x.ldmc")
    (tmp_path / "precious").write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("damage", "code", "message", "fix"), BUNDLES.values(), ids=BUNDLES)
def test_a_damaged_bundle_says_what_where_and_fix(
    ldmc: Run,
    command: tuple[str, ...],
    damage: Callable[[Path], object],
    code: int,
    message: tuple[str, ...],
    fix: str,
    damaged: Path,
) -> None:
    damage(damaged / "x.ldmc")
    before = listing(damaged)
    # `verify` asks for hashes; files that are not the manifest's are then exit 5.
    wanted = 5 if command[0] == "verify" and damage in (file_gone, file_short) else code
    check(ldmc(*command, "--json"), wanted, message, fix)
    assert listing(damaged) == before


@pytest.mark.parametrize("flags", [(), ("--hashes-only",)])
def test_an_altered_file_is_exit_5(ldmc: Run, flags: tuple[str, ...], damaged: Path) -> None:
    file_altered(damaged / "x.ldmc")
    before = listing(damaged)
    message = ("1 file is not as the manifest says: unet/model.onnx.data has SHA-256 ", ", expected ")
    check(
        ldmc("verify", "x.ldmc", *flags, "--json"),
        5,
        message,
        "copy the bundle again whole, or build it again",
    )
    assert listing(damaged) == before


def test_every_damaged_file_is_counted(ldmc: Run, damaged: Path) -> None:
    files = sorted(path for path in (damaged / "x.ldmc" / "runtime").rglob("*.py"))[:7]
    for file in files:
        file.unlink()
    check(
        ldmc("inspect", "x.ldmc", "--json"),
        1,
        ("7 files are not as the manifest says", "and 2 more"),
        "build it again",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: checkpoints.edit_json(model / "unet" / "config.json", {"_note": 1}),
            "has another configuration",
        ),
        (
            lambda model: replace_state(
                model / "unet", {key: tensor + 1 for key, tensor in read_state(model / "unet").items()}
            ),
            "has other weights",
        ),
    ],
    ids=["configuration", "weights"],
)
def test_verifying_against_another_model_is_exit_5(
    ldmc: Run, change: Callable[[Path], object], message: str, damaged: Path, tiny_model: Path
) -> None:
    change(checkpoints.copy_model(tiny_model, damaged / "other"))
    before = listing(damaged)
    done = ldmc("verify", "x.ldmc", "--model", "other", "--json")
    check(done, 5, ("other", message, "than the bundle was made from"), "--model")
    assert listing(damaged) == before


# Bad requests to a good bundle.


@pytest.mark.parametrize(
    ("arguments", "code", "message", "fix"),
    [
        (("--steps", "0"), 2, "steps is 0", "use 1 to 1000 steps"),
        (
            ("--steps", "1001"),
            2,
            "steps is 1001; the model was trained with 1000 timesteps",
            "use 1 to 1000 steps",
        ),
        (("--batch", "0"), 2, "batch is 0, expected an integer from 1", ""),
        (("--seed", "-1"), 2, "seed is -1, expected an integer from 0", ""),
        (("--seed", "4294967296"), 2, "reach over the largest seed, 4294967295", ""),
        (("--eta", "1.5"), 2, "eta is 1.5, expected a number from 0 to 1", ""),
        (("--threads", "0"), 2, "threads is 0, expected an integer from 1", ""),
        (("-o", "x.jpg"), 2, "x.jpg does not end in .png", "name the file so"),
        (("-o", "nowhere/x.png"), 2, "there is no folder ", "-o"),
        (("-o", "folder.png"), 1, "folder.png", ""),
    ],
)
def test_a_bad_request_to_a_good_bundle(
    ldmc: Run,
    arguments: tuple[str, ...],
    code: int,
    message: str,
    fix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_bundle(tmp_path / "x.ldmc")
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    given = () if "--steps" in arguments else ("--steps", "1")
    done = ldmc("run", "x.ldmc", *given, *arguments, "--json")
    check(done, code, (message,), fix)
    assert {path.name for path in tmp_path.iterdir()} == {"x.ldmc", "folder.png"}


def test_an_interrupted_drawing_leaves_no_picture(
    ldmc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ldmc.runtime.loader import Pipeline

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    make_bundle(tmp_path / "x.ldmc")
    monkeypatch.setattr(Pipeline, "decode", interrupted)
    done = ldmc("run", tmp_path / "x.ldmc", "--steps", "1", "-o", tmp_path / "x.png", "--json")
    check(done, 130, ("interrupted",), "")
    assert {path.name for path in tmp_path.iterdir()} == {"x.ldmc"}


@pytest.mark.parametrize(
    ("arguments", "code", "message", "fix"),
    [
        (("x.ldmc:unet:fodl", "x.ldmc"), 2, "has no component or stage 'fodl'", "did you mean"),
        (("x.ldmcc", "x.ldmc"), 2, "x.ldmcc: no such file or bundle", "did you mean x.ldmc?"),
        (("precious", "x.ldmc"), 2, "precious: is not an ONNX model", "give an ONNX file or a bundle"),
    ],
)
def test_a_bad_reference_to_compare(
    ldmc: Run, arguments: tuple[str, ...], code: int, message: str, fix: str, damaged: Path
) -> None:
    check(ldmc("diff", *arguments, "--json"), code, (message,), fix)
