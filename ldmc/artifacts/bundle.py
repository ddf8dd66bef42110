"""Writing a bundle: into a temporary sibling folder, renamed when it is complete.

    .NAME.TARGET.ldmc.tmp-PID/   ->   NAME.TARGET.ldmc/      a bundle that is replaced exchanges its name with it

A build that fails or is interrupted leaves nothing behind; one that was killed leaves a temporary
folder that the next build of the same bundle removes. Same input, same bytes: keys are sorted,
nothing is stamped with a time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ldmc import runtime
from ldmc.artifacts import graphs
from ldmc.artifacts.abandoned import remove, remove_abandoned
from ldmc.artifacts.exchange import exchange
from ldmc.errors import BundleError, LdmcError
from ldmc.runtime import leftovers, stopping
from ldmc.runtime.digest import sha256_of_file
from ldmc.runtime.manifest import MANIFEST_NAME, SCHEMA_VERSION

if TYPE_CHECKING:
    import onnx_ir as ir


class BundleWriter:
    """One bundle being written. Use as a context manager; `complete`, then `publish` makes it real.

    Args:
        path: the bundle's folder. force: replace what is there.

    Raises:
        BundleError: something is there already, or the parent folder cannot be written.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path = path
        self.force = force
        self.folder = path.parent / f".{path.name}.tmp-{os.getpid()}"
        self._roles: dict[str, str] = {}
        self._made: list[Path] = []  # folders made on the way to `path`, innermost first
        self._announced = contextlib.ExitStack()
        check_output(path, force=force)

    def __enter__(self) -> BundleWriter:
        parents = (self.path.parent, *self.path.parent.parents)
        self._made = [folder for folder in parents if not folder.exists()]
        try:
            self._announce()
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                remove_abandoned(self.path)
                check_output(self.path, force=self.force)
                self.folder.mkdir()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def add_onnx(self, model: ir.Model, relative: str, role: str, advance: Callable[[int], None]) -> None:
        """Stream `model` to `relative` (graph) and `relative`.data (weights); `advance` is told bytes written.

        Raises:
            BundleError: the disk is too small or full. PassError: a weight cannot be represented.
        """
        self.add_onnx_parts({relative: model}, f"{relative}.data", role, advance)

    def add_onnx_parts(
        self, models: Mapping[str, ir.Model], data: str, role: str, advance: Callable[[int], None]
    ) -> None:
        """Stream several graphs that share their weights: each tensor is written once, to `data` in the same folder.

        models: path in the bundle -> graph. `advance` is told bytes written.

        Raises:
            BundleError: the disk is too small or full. PassError: a weight cannot be represented.
        """
        folder = self.folder / Path(data).parent
        with writing(self.path), _own_errors():
            folder.mkdir(parents=True, exist_ok=True)
            stored = graphs.store(models.values(), folder, Path(data).name, advance)
            for relative, model in models.items():
                graphs.save(model, stored, self.folder / relative)
                self._roles[relative] = role
        self._roles[data] = "weights" if role == "graph" else role

    def add_file(
        self, relative: str, role: str, save: Callable[[Path], None], needed_bytes: int = 0
    ) -> None:
        """A file that `save` writes to the path it is given, at least `needed_bytes` large.

        Raises:
            BundleError: the disk is too small or full.
        """
        file = self.folder / relative
        with writing(self.path):
            file.parent.mkdir(parents=True, exist_ok=True)
            graphs.require_space(file, needed_bytes)
            save(file)
        self._roles[relative] = role

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder on the bundle's disk, gone when the context ends."""
        folder = self.folder / ".scratch"
        with writing(self.path):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add_json(self, data: Any, relative: str, role: str) -> None:
        """Write `data` as JSON with sorted keys."""
        with writing(self.path):
            _write_json(data, self.folder / relative)
        self._roles[relative] = role

    def complete(self, manifest: dict[str, Any]) -> str:
        """Add the runtime, and the manifest with `schema_version` and `files`: `folder` is then a whole bundle.

        Returns: SHA-256 of manifest.json.
        """
        with writing(self.path):
            self._add_runtime()
            files = [self._entry(relative) for relative in sorted(self._roles)]
            whole = {"schema_version": SCHEMA_VERSION, **manifest, "files": [f for f in files if f]}
            _write_json(whole, self.folder / MANIFEST_NAME)
        sha256: str = sha256_of_file(str(self.folder / MANIFEST_NAME))
        return sha256

    def publish(self) -> None:
        """Give the folder its name, replacing what is there if that was allowed.

        A kill at any instant leaves a whole bundle under the name, the old or the new one. Only where the system cannot
        exchange two names there is an instant without; the next build then puts the old one back.
        """
        with writing(self.path):
            if not (self.force and os.path.lexists(self.path)):
                os.rename(self.folder, self.path)
            elif exchange(self.folder, self.path):
                remove(self.folder)  # the old one, now
            else:
                self._rename_twice()

    def _rename_twice(self) -> None:
        """Put the old bundle aside, then rename the new one into its place."""
        replaced = self.path.parent / f".{self.path.name}.old-{os.getpid()}"
        with stopping.undivided():
            try:
                os.rename(self.path, replaced)
                os.rename(self.folder, self.path)
            except BaseException:
                if os.path.lexists(replaced) and not os.path.lexists(self.path):
                    os.rename(replaced, self.path)
                raise
            self._announced.enter_context(leftovers.temporary(replaced))
        remove(replaced)

    def _clean_up(self) -> None:
        """Remove what is not the bundle: the temporary folder, and folders made for nothing."""
        remove(self.folder)
        for folder in self._made:
            with contextlib.suppress(OSError):  # not empty: the bundle is in it
                folder.rmdir()
        self._announced.close()

    def _announce(self) -> None:
        """Have what is made here removed where a stop interrupts the removing, or comes while C++ writes."""
        for folder in [f"{folder}{os.sep}" for folder in reversed(self._made)] + [str(self.folder)]:
            self._announced.enter_context(leftovers.temporary(folder))

    def _add_runtime(self) -> None:
        for relative in copy_runtime(self.folder):
            self._roles[relative] = "runtime"

    def _entry(self, relative: str) -> dict[str, Any] | None:
        """A file's line in the manifest; None for a weights file that was not needed."""
        file = self.folder / relative
        if not file.exists():
            return None
        return {
            "path": relative,
            "bytes": file.stat().st_size,
            "sha256": sha256_of_file(str(file)),
            "role": self._roles[relative],
        }


def copy_runtime(bundle: Path) -> list[str]:
    """Copy the loader, as it is, into the folder `bundle`; the paths of its files there.

    Beside its modules lies an empty file where Python would keep their bytecode in a folder. So Python writes none,
    which no manifest could list, and reads none, which anybody could have put there.
    """
    source = Path(runtime.__file__).parent
    relatives = []
    for file in sorted(source.rglob("*.py")):
        target = bundle / "runtime" / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        no_bytecode = target.with_name("__pycache__")
        no_bytecode.touch()
        relatives += [path.relative_to(bundle).as_posix() for path in (target, no_bytecode)]
    return sorted(set(relatives))


def check_output(path: Path, *, force: bool) -> None:
    """Refuse a bundle path that is taken, before any work.

    Raises:
        BundleError: something is there and `force` is not given, or it is not a bundle.
    """
    if not os.path.lexists(path):  # a link to nowhere is something, too
        return
    if not (path / MANIFEST_NAME).is_file():
        raise BundleError(
            f"{path} exists and is not a bundle", fix="give another path with -o, or remove it yourself"
        )
    if not force:
        raise BundleError(f"{path} exists", fix="replace it with --force, or give another path with -o")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's errors while writing `path` into one sentence."""
    try:
        yield
    except OSError as error:
        # numpy's tofile, which writes the weights, says how much it wrote and sets no errno.
        short = error.errno is None and "written" in str(error)
        if short or error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_existing(path)).free
            raise BundleError(
                f"the disk is full: {path} could not be written, {free / 2**20:.0f} MiB are free",
                fix="free some space, or write elsewhere with -o",
            ) from error
        raise BundleError(
            f"{path} cannot be written: {error.strerror or error}",
            fix="check the folder and its permissions, or give -o",
        ) from error


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Let an error of ours, raised while a tensor was read, out of what onnx_ir wraps around it."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LdmcError):
            cause = cause.__cause__ or cause.__context__
        if cause is None or cause is error:
            raise
        raise cause from error


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _write_json(data: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    indent = (
        1 if file.name == MANIFEST_NAME else None
    )  # reports hold whole graphs; the manifest is read by people
    text = json.dumps(data, indent=indent, sort_keys=True, separators=None if indent else (",", ":"))
    file.write_text(text + "\n", encoding="utf-8")
