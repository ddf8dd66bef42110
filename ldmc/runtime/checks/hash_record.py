"""SHA-256 of a bundle's files that were checked once, so that a later load need not read them again.

A file that still is what it was (size, times, inode) has the SHA-256 it had; any other is read. The record lies in the
user's cache folder, because one in the bundle would vouch for itself. One record is of one manifest in one place:

    ~/.cache/ldmc/hashes/SHA256-OF-MANIFEST-0123456789abcdef.json
    {"unet/model.onnx": {"identity": [size, mtime, ctime, inode, device], "sha256": "...",
                         "external": ["model.onnx.data"]}}                      external: of ONNX graphs only
"""

import json
import os
import time

from ..digest import sha256_of_file, sha256_of_text
from ..errors import BundleProblem
from ..files import write_whole
from .strict_json import read_json

FOLDER = "hashes"
# A change within the clock's tick of the file system leaves the times as they are: a file that is so young is not
# recorded. Some file systems (FAT, on memory cards) count in two seconds.
YOUNG_SECONDS, YOUNG_SECONDS_COARSE = 0.05, 2.1


class HashRecord(object):
    """The record of one bundle.

    Args: folder: the user's cache folder, None to keep nothing. manifest: Manifest.
    """

    def __init__(self, folder, manifest):
        self._root = manifest.root
        self._path = None
        self._known = {}
        self._added = {}
        if folder is not None:
            place = sha256_of_text(os.path.realpath(manifest.root))[:16]
            self._path = os.path.join(folder, FOLDER, "%s-%s.json" % (manifest.sha256, place))
            self.reload()

    @property
    def is_kept(self):
        """Whether there is a place to keep it."""
        return self._path is not None

    def reload(self):
        """Reads what other processes recorded meanwhile."""
        try:
            data, _ = read_json(self._path)
        except BundleProblem:  # none yet, or damaged: then files are read again
            return
        if isinstance(data, dict):
            self._known = {name: entry for name, entry in data.items() if isinstance(entry, dict)}

    def sha256_of(self, relative, force=False):
        """SHA-256 of a file of the bundle: as recorded where the file is unchanged, else read. Raises OSError.

        Args: relative: of a regular file in the bundle. force: read it in any case.
        """
        known = self._entry(relative)
        path = self._file(relative)
        before = _identity(path)
        if not force and known.get("identity") == before and isinstance(known.get("sha256"), str):
            return known["sha256"]
        found = sha256_of_file(path)
        self._add(relative, dict(known if found == known.get("sha256") else {}, sha256=found), before)
        return found

    def vouches(self, relative, force=False):
        """Whether a file of the bundle is what it was when it was recorded, in this or an earlier process.

        Args: force: read it, even where it seems unchanged.
        """
        known = self._entry(relative)
        try:
            before = _identity(self._file(relative))
            if "sha256" not in known or (known.get("identity") == before and not force):
                return "sha256" in known
            if sha256_of_file(self._file(relative)) != known["sha256"]:
                return False
            self._add(relative, known, before)
        except OSError:  # it is gone
            return False
        return True

    def external_of(self, relative, ask):
        """The locations an ONNX graph of the bundle names: as recorded for its present SHA-256, else `ask(path)`."""
        known = self._entry(relative)
        if not isinstance(known.get("external"), list):
            known = dict(known, external=ask(self._file(relative)))
            self._added[relative] = known
        return known["external"]

    def save(self):
        """Writes what was added. Returns: "" or why that failed."""
        if self._path is None or not self._added:
            return ""
        try:
            self.reload()
            self._known.update(self._added)
            self._added = {}
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            write_whole(self._path, json.dumps(self._known, indent=1, sort_keys=True) + "\n")
        except OSError as problem:
            return "%s: %s" % (self._path, problem.strerror or problem)
        return ""

    def _add(self, relative, entry, identity):
        path = self._file(relative)
        if _identity(path) == identity and not _is_young(path):
            self._added[relative] = dict(entry, identity=identity)
        else:
            self._added[relative] = {key: value for key, value in entry.items() if key != "identity"}

    def _entry(self, relative):
        return self._added.get(relative) or self._known.get(relative) or {}

    def _file(self, relative):
        return os.path.join(self._root, *relative.split("/"))


def _identity(path):
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _is_young(path):
    status = os.stat(path)
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    coarse = status.st_mtime_ns % 10 ** 9 == 0
    return abs(time.time() - newest / 1e9) < (YOUNG_SECONDS_COARSE if coarse else YOUNG_SECONDS)
