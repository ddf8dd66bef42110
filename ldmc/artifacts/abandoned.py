"""What builds that were killed left beside a bundle: temporary folders, and an old bundle that was put aside."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from pathlib import Path

from ldmc.runtime.manifest import MANIFEST_NAME


def remove(folder: Path) -> None:
    """Remove a folder, or a link to one but not what it leads to; what cannot be removed stays."""
    if os.path.islink(folder):  # False, too, for a name that no system takes
        with contextlib.suppress(OSError):
            folder.unlink()
        return
    shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Remove temporary folders of builds of this bundle whose process is gone.

    One that was killed just as it replaced a bundle has put the old one aside: it is put back.
    """
    for kind in ("old", "tmp"):
        for folder in sorted(path.parent.glob(f".{glob.escape(path.name)}.{kind}-*")):
            pid = folder.name.rpartition("-")[2]
            if pid.isdigit() and Path(f"/proc/{pid}").exists() and int(pid) != os.getpid():
                continue
            if kind == "old" and not os.path.lexists(path) and (folder / MANIFEST_NAME).is_file():
                os.rename(folder, path)
                continue
            remove(folder)
