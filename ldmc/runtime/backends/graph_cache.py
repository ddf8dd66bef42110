"""The engine's optimised graph, kept next to the model so that later loads neither optimise nor copy weights.

    unet/model.onnx  model.onnx.data             as compiled
    unet/optimized-0123456789abcdef/             named by the key's first 16 digits
        model.onnx  model.onnx.data              as the engine saved them
        key.json                                 the whole key
    unet/0.onnx                                  a part, which shares the weights file with others
    unet/optimized-0-0123456789abcdef/           has a folder of its own

A folder is made under another name and renamed, so it is whole or not there. Who makes one holds a lock
on the component's folder; who waits for the lock then finds it made, or after a minute does without. It lies in the
bundle, where anybody may have put it: what its files must be stands in the record that the user's cache folder has of
the bundle.
"""

import io
import json
import os
import re
import shutil
import uuid

from ..checks.strict_json import read_json
from ..digest import sha256_of_text
from ..errors import BundleProblem
from ..files import flush
from ..leftovers import temporary as announced
from ..locks import locked_folder

PREFIX = "optimized-"
MODEL_NAME = "model.onnx"
KEY_NAME = "key.json"


class GraphCache(object):
    """The saved graph of one model file for one key.

    Args:
        model_path: the file as compiled.
        key: JSON-able dict of everything the saved graph depends on.
        record: `checks.hash_record.HashRecord` of the bundle.
        relative: the folder of the model file, as a path of the bundle.
    """

    def __init__(self, model_path, key, record, relative):
        self.folder = os.path.dirname(model_path)
        self._record = record
        self.key = key
        stem = os.path.splitext(os.path.basename(model_path))[0]
        self._prefix = PREFIX if stem + ".onnx" == MODEL_NAME else "%s%s-" % (PREFIX, stem)
        digits = sha256_of_text(json.dumps(key, sort_keys=True))[:16]
        self._relative = "/".join(filter(None, [relative, self._prefix + digits]))
        self.path = os.path.join(self.folder, self._prefix + digits)
        self.model_path = os.path.join(self.path, MODEL_NAME)

    def is_whole(self, hashes=False):
        """Whether the saved graph is there, is of this key, and its files are those that were recorded as it was made.

        Args: hashes: read the files even where they seem unchanged.
        """
        if not os.path.isdir(self.path) or os.path.islink(self.path):
            return False
        try:
            known, _ = read_json(os.path.join(self.path, KEY_NAME))
            names = sorted(set(os.listdir(self.path)) - {KEY_NAME})
        except (OSError, BundleProblem):
            return False
        if known != {"key": self.key} or MODEL_NAME not in names:
            return False
        self._record.reload()  # another process may have made it
        return all(not os.path.islink(os.path.join(self.path, name))
                   and self._record.vouches("%s/%s" % (self._relative, name), hashes) for name in names)

    def locked(self):
        """A context in which no other process works on this component's folder. Gives False where there are no locks.

        Raises: BundleProblem, on entering, where another process goes on working there for too long.
        """
        return locked_folder(self.folder)

    def make(self, save):
        """Makes the folder anew. `save(path)` writes the graph to `path` and its weights beside it.

        Raises: OSError where it cannot be written, and what `save` raises; nothing half-written is left.
        """
        temporary = "%s.part-%s" % (self.path, uuid.uuid4().hex[:8])
        with announced(temporary):
            try:
                os.mkdir(temporary)
                save(os.path.join(temporary, MODEL_NAME))
                self._write_key(temporary)
                self.discard()
                os.rename(temporary, self.path)
                self._write_record()
            except OSError:
                if not self.is_whole():  # else another process, one that does not lock, was first
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def discard(self):
        """Removes this key's folder, if it is there."""
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_others(self):
        """Removes this model's folders of other keys and what dead processes left. Only for the holder of the lock."""
        own = re.compile(re.escape(self._prefix) + r"[0-9a-f]{16}(\.part-[0-9a-f]+)?$")
        for name in sorted(os.listdir(self.folder)):
            path = os.path.join(self.folder, name)
            if own.match(name) and path != self.path:
                shutil.rmtree(path, ignore_errors=True)

    def _write_key(self, folder):
        for name in sorted(os.listdir(folder)):
            flush(os.path.join(folder, name))
        path = os.path.join(folder, KEY_NAME)
        with io.open(path, "w", encoding="utf-8") as stream:
            stream.write(json.dumps({"key": self.key}, indent=1, sort_keys=True) + "\n")
        flush(path)

    def _write_record(self):
        """Once the folder has its name: renaming a folder does not change the files in it."""
        for name in sorted(set(os.listdir(self.path)) - {KEY_NAME}):
            self._record.sha256_of("%s/%s" % (self._relative, name), force=True)
        problem = self._record.save()
        if problem:
            raise OSError(0, problem)
