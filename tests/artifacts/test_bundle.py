"""Writing a bundle: all of it or nothing, never over something else, and the same bytes every time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ldmc.artifacts import bundle as bundle_module
from ldmc.artifacts import exchange as exchange_module
from ldmc.artifacts.bundle import BundleWriter, check_output
from ldmc.artifacts.exchange import exchange
from ldmc.errors import BundleError
from ldmc.runtime.checks.opening import Vouched
from ldmc.runtime.manifest import read_manifest
from tests.conftest import build_bundle

MANIFEST = {"name": "x", "target": "cpu", "components": {}, "scheduler": {}}
GRAPH = """<ir_version: 10, opset_import: ["" : 18]>
g (float[1,3,8,8] input_0) => (float[1,64,8,8] output_0) <float[64,3,3,3] w = {ZEROS}, float[1] half = {0.5}>
{
    c = Conv <pads = [1,1,1,1]> (input_0, w)
    output_0 = Mul (c, half)
}""".replace("ZEROS", ",".join(["0"] * 1728))


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path under `folder`, hidden ones too, with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def write(path: Path, *, force: bool = False, data: Any = 1) -> None:
    with BundleWriter(path, force=force) as writer:
        writer.add_json({"data": data}, "reports/01-a.json", "report")
        writer.complete(MANIFEST)
        writer.publish()


def graph(read: Callable[[], ir.TensorProtocol] | None = None) -> ir.Model:
    """A graph with one large weight, lazy as those of a build."""
    model = ir.from_onnx_text(GRAPH)
    if read is not None:
        shape = ir.Shape((64, 3, 3, 3))
        lazy = ir.LazyTensor(read, dtype=ir.DataType.FLOAT, shape=shape, name="w")
        model.graph.initializers["w"].const_value = lazy
    return model


def ignore(_: int) -> None:
    pass


# Whole bundles.


def test_a_bundle_lists_its_files_with_size_hash_and_role(tmp_path: Path) -> None:
    path = tmp_path / "x.cpu.ldmc"
    told: list[int] = []
    with BundleWriter(path, force=False) as writer:
        writer.add_onnx(graph(), "unet/model.onnx", "graph", told.append)
        writer.add_json({"b": 1, "a": 2}, "reports/01-onnx.json", "report")
        writer.complete(MANIFEST)
        writer.publish()
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["schema_version"] == 2
    assert manifest["name"] == "x"
    on_disk = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert {entry["path"] for entry in manifest["files"]} == on_disk - {"manifest.json"}
    assert [entry["path"] for entry in manifest["files"]] == sorted(
        entry["path"] for entry in manifest["files"]
    )
    roles = {entry["path"]: entry["role"] for entry in manifest["files"]}
    assert roles["unet/model.onnx"] == "graph"
    assert roles["unet/model.onnx.data"] == "weights"
    assert roles["reports/01-onnx.json"] == "report"
    assert roles["runtime/loader.py"] == "runtime"
    for entry in manifest["files"]:
        content = (path / entry["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert sum(told) >= 64 * 27 * 4
    assert (path / "reports" / "01-onnx.json").read_text() == '{"a":2,"b":1}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["x.cpu.ldmc"]
    Vouched(read_manifest(path)).check_whole()


def test_large_weights_lie_on_pages_of_the_weights_file(tmp_path: Path) -> None:
    import onnx

    with BundleWriter(tmp_path / "x.ldmc", force=False) as writer:
        writer.add_onnx(graph(), "unet/model.onnx", "graph", ignore)
        writer.complete(MANIFEST)
        writer.publish()
    model = onnx.load(tmp_path / "x.ldmc" / "unet" / "model.onnx", load_external_data=False)
    where = {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer}
    assert where["w"]["location"] == "model.onnx.data"
    assert int(where["w"]["offset"]) % 4096 == 0
    assert where["half"] == {}  # too small to leave the graph


def test_no_weights_no_weights_file(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 18]> g (float[2] a) => (float[2] b) { b = Neg (a) }'
    with BundleWriter(tmp_path / "x.ldmc", force=False) as writer:
        writer.add_onnx(ir.from_onnx_text(text), "unet/model.onnx", "graph", ignore)
        writer.complete(MANIFEST)
        writer.publish()
    Vouched(read_manifest(tmp_path / "x.ldmc")).check_whole()


def test_same_input_same_bytes(tiny_model: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    again = build_bundle(tiny_model, tmp_path / "tiny.cpu.ldmc", "onnx,fold")
    one, two = listing(tiny_bundle), listing(again)
    # Without the optimised graphs that the runtime keeps where another test has run the bundle.
    assert two == {key: value for key, value in one.items() if "/optimized-" not in key}


def test_nothing_of_a_build_says_when_or_where_it_was(tiny_model: Path, tiny_bundle: Path) -> None:
    text = (tiny_bundle / "manifest.json").read_text()
    text += "".join(p.read_text() for p in (tiny_bundle / "reports").rglob("*.json"))
    places = [str(place) for place in (Path.home(), tiny_bundle.parent, tiny_model.parent)]
    for word in ("seconds", "peak_rss", "hostname", *places):
        assert word not in text


# What is there already.


def test_an_existing_bundle_is_refused_without_force(tmp_path: Path) -> None:
    write(tmp_path / "x.ldmc")
    before = listing(tmp_path)
    with pytest.raises(BundleError, match=r"x\.ldmc exists") as caught:
        write(tmp_path / "x.ldmc", data=2)
    assert "--force" in caught.value.fix
    assert listing(tmp_path) == before


def test_force_replaces_a_bundle_whole(tmp_path: Path) -> None:
    write(tmp_path / "x.ldmc")
    (tmp_path / "x.ldmc" / "stale.txt").write_text("from before")
    write(tmp_path / "x.ldmc", force=True, data=2)
    assert not (tmp_path / "x.ldmc" / "stale.txt").exists()
    assert (tmp_path / "x.ldmc" / "reports" / "01-a.json").read_text() == '{"data":2}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["x.ldmc"]


def _file(path: Path) -> None:
    path.write_text("precious")


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("precious")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("make", [_file, _folder, Path.mkdir, _dangling])
def test_what_is_no_bundle_is_never_replaced(
    make: Callable[[Path], None], force: bool, tmp_path: Path
) -> None:
    make(tmp_path / "x.ldmc")
    before = listing(tmp_path)
    with pytest.raises(BundleError, match="exists and is not a bundle") as caught:
        check_output(tmp_path / "x.ldmc", force=force)
    assert "-o" in caught.value.fix
    assert listing(tmp_path) == before


# Failure and interruption.


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_on_the_way_leaves_nothing_behind(kind: type[BaseException], tmp_path: Path) -> None:
    before = listing(tmp_path)
    with pytest.raises(kind), BundleWriter(tmp_path / "new" / "deep" / "x.ldmc", force=False) as writer:
        writer.add_onnx(graph(), "unet/model.onnx", "graph", ignore)
        assert (tmp_path / "new" / "deep").is_dir()
        raise kind
    assert listing(tmp_path) == before


def test_folders_on_the_way_stay_where_the_bundle_is(tmp_path: Path) -> None:
    write(tmp_path / "new" / "deep" / "x.ldmc")
    assert [p.name for p in (tmp_path / "new" / "deep").iterdir()] == ["x.ldmc"]


def test_a_failed_replacement_keeps_the_old_bundle(tmp_path: Path) -> None:
    write(tmp_path / "x.ldmc")
    before = listing(tmp_path)
    with pytest.raises(RuntimeError), BundleWriter(tmp_path / "x.ldmc", force=True) as writer:
        writer.add_json({}, "reports/01-a.json", "report")
        raise RuntimeError
    assert listing(tmp_path) == before


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_replacement_that_fails_half_way_puts_the_old_bundle_back(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "x.ldmc")
    before = listing(tmp_path)
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if ".tmp-" in Path(source).name:
            raise error
        rename(source, target)

    monkeypatch.setattr(bundle_module, "exchange", cannot_exchange)
    monkeypatch.setattr(bundle_module.os, "rename", failing)
    with pytest.raises((BundleError, KeyboardInterrupt)):
        write(tmp_path / "x.ldmc", force=True, data=2)
    assert listing(tmp_path) == before


def cannot_exchange(_one: Path, _other: Path) -> bool:
    """As where the system or the disk has no exchange of names."""
    return False


def killed_while_publishing(path: Path, line: int) -> bool:
    """Replace the bundle at `path` in a process of its own that is killed before the `line`th line of publishing.

    False where there are fewer lines, and it ended by itself.
    """
    pid = os.fork()
    if pid == 0:
        # Nothing of pytest may run in this process: it ends here, whatever happens.
        try:
            with BundleWriter(path, force=True) as writer:
                writer.add_json({"data": 2}, "reports/01-a.json", "report")
                writer.complete(MANIFEST)
                left = [line]

                def trace(frame: Any, event: str, _: Any) -> Any:
                    if event == "call":
                        return trace if frame.f_code.co_filename.endswith(("bundle.py", "exchange.py")) else None
                    if event == "line":
                        left[0] -= 1
                        if left[0] == 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                    return trace

                sys.settrace(trace)
                writer.publish()
                sys.settrace(None)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


@pytest.mark.parametrize("exchanging", [True, False], ids=["exchange", "two renames"])
def test_a_kill_at_any_line_of_a_replacement_leaves_a_whole_bundle(
    exchanging: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanging:
        monkeypatch.setattr(bundle_module, "exchange", cannot_exchange)
    elif not can_exchange(tmp_path):
        pytest.skip("the system or the disk cannot exchange two names")
    monkeypatch.setattr(BundleWriter, "_add_runtime", lambda _: None)  # a second for each line
    path = tmp_path / "x.ldmc"
    write(path)
    seen, gone, line = set(), 0, 1
    while killed_while_publishing(path, line):
        if not path.exists():
            gone += 1
            with pytest.raises(BundleError, match="exists"):  # the next build puts it back
                write(path, data=3)
        Vouched(read_manifest(path)).check_whole()
        seen.add(json.loads((path / "reports" / "01-a.json").read_text())["data"])
        write(path, force=True)
        line += 1
    assert line > 5
    assert seen == {1, 2}
    assert (gone == 0) is exchanging
    write(path, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.ldmc"]


def can_exchange(folder: Path) -> bool:
    one, other = folder / "one", folder / "other"
    one.mkdir()
    other.mkdir()
    (one / "mark").touch()
    done = exchange(one, other)
    assert (other / "mark").exists() is done
    shutil.rmtree(one)
    shutil.rmtree(other)
    return done


def test_names_that_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    assert not exchange(tmp_path / "one", tmp_path / "none")
    monkeypatch.setattr(exchange_module.ctypes, "CDLL", lambda *_, **__: object())  # a C library that is too old
    assert not exchange(tmp_path / "one", tmp_path / "none")


@pytest.mark.parametrize("exchanging", [True, False], ids=["exchange", "two renames"])
def test_a_link_to_a_bundle_is_replaced_and_what_it_leads_to_stays(
    exchanging: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanging:
        monkeypatch.setattr(bundle_module, "exchange", cannot_exchange)
    write(tmp_path / "real.ldmc")
    before = listing(tmp_path / "real.ldmc")
    (tmp_path / "x.ldmc").symlink_to("real.ldmc")
    write(tmp_path / "x.ldmc", force=True, data=2)
    assert (tmp_path / "x.ldmc").is_dir() and not (tmp_path / "x.ldmc").is_symlink()
    assert listing(tmp_path / "real.ldmc") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["real.ldmc", "x.ldmc"]


def test_a_lazy_weight_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> ir.TensorProtocol:
        raise BundleError("no such weight")

    with pytest.raises(BundleError), BundleWriter(tmp_path / "x.ldmc", force=False) as writer:
        writer.add_onnx(graph(broken), "unet/model.onnx", "graph", ignore)
    assert listing(tmp_path) == {}


@pytest.fixture
def dead_pid() -> int:
    """The number of a process that was, and is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_killed_builds_left_is_removed_and_running_ones_are_not_touched(
    tmp_path: Path, dead_pid: int
) -> None:
    stale = tmp_path / f".x.ldmc.tmp-{dead_pid}"
    half_replaced = tmp_path / f".x.ldmc.old-{dead_pid}"
    running = tmp_path / f".x.ldmc.tmp-{os.getppid()}"
    another = tmp_path / f".y.ldmc.tmp-{dead_pid}"
    for folder in (stale, half_replaced, running, another):
        (folder / "unet").mkdir(parents=True)
    write(tmp_path / "x.ldmc")
    write(tmp_path / "x.ldmc", force=True)
    assert {p.name for p in tmp_path.iterdir()} == {"x.ldmc", running.name, another.name}


def test_a_bundle_that_a_killed_build_put_aside_is_put_back(tmp_path: Path, dead_pid: int) -> None:
    write(tmp_path / "x.ldmc")
    before = listing(tmp_path)
    os.rename(tmp_path / "x.ldmc", tmp_path / f".x.ldmc.old-{dead_pid}")
    with pytest.raises(BundleError, match="exists"):
        write(tmp_path / "x.ldmc", data=2)
    assert listing(tmp_path) == before


# The disk.


def test_too_small_a_disk_is_noticed_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = bundle_module.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(bundle_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(BundleError, match=r"unet/model\.onnx\.data needs 0 MiB, its disk has 0 MiB free") as caught:
        with BundleWriter(tmp_path / "x.ldmc", force=False) as writer:
            writer.add_onnx(graph(), "unet/model.onnx", "graph", ignore)
    assert "-o" in caught.value.fix
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("full_at", ["weights", "report", "runtime", "manifest"])
def test_a_disk_that_fills_up(full_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_: object, **__: object) -> None:
        raise full

    def read() -> ir.TensorProtocol:
        raise full

    with pytest.raises(
        BundleError, match="the disk is full: .* could not be written, [0-9]+ MiB are free"
    ) as caught:
        with BundleWriter(tmp_path / "x.ldmc", force=False) as writer:
            writer.add_onnx(graph(read if full_at == "weights" else None), "unet/model.onnx", "graph", ignore)
            if full_at in ("report", "manifest"):
                monkeypatch.setattr(bundle_module, "_write_json", fail)
            if full_at == "report":
                writer.add_json({}, "reports/01-a.json", "report")
            if full_at == "runtime":
                monkeypatch.setattr(bundle_module.shutil, "copyfile", fail)
            writer.complete(MANIFEST)
    assert "free some space" in caught.value.fix
    assert listing(tmp_path) == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "ldmc-test", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """Another program takes the room meanwhile: found out while writing, not before."""
    write(small_disk / "old.ldmc")
    before = listing(small_disk)

    def read() -> ir.TensorProtocol:
        (small_disk / "other.bin").write_bytes(b"0" * _free(small_disk))
        return ir.tensor(np.zeros((64, 3, 3, 3), np.float32), name="w")

    with pytest.raises(BundleError, match="the disk is full: .*, 0 MiB are free"):
        with BundleWriter(small_disk / "x.ldmc", force=False) as writer:
            writer.add_onnx(graph(read), "unet/model.onnx", "graph", ignore)
    (small_disk / "other.bin").unlink()
    assert listing(small_disk) == before


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    before = listing(tmp_path)
    for path in (tmp_path / "file" / "x.ldmc", tmp_path / "file" / "deep" / "x.ldmc", Path("/proc/x.ldmc")):
        with pytest.raises(BundleError, match=f"{path} cannot be written: ") as caught:
            write(path)
        assert "permissions" in caught.value.fix
    assert listing(tmp_path) == before


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be written: File name too long"):
        write(tmp_path / "new" / ("x" * 300))
    assert listing(tmp_path) == {}
