"""Whether a bundle's native code and scripts may be loaded: only where the user says so, or they were made here.

A graph is data. What these forms hold runs with the user's rights as soon as it is loaded:

    aoti          a shared object, whose constructors run
    torchscript   a script, which can read and write files
    engine        what TensorRT deserialises: code for the GPU, and plugins

Made here: `~/.cache/ldmc/trusted/HASH`, an empty file for each manifest that `ldmc build` wrote and for each engine
that `finish` built. A file of that name is as good as the user's word, so the folder is the user's alone.
"""

import os

from ..errors import BundleProblem

FOLDER = "trusted"
FORMS = {"aoti": "machine code", "torchscript": "a script", "engine": "machine code"}


class UntrustedBundle(BundleProblem):
    """A part would run code of the bundle's, and nobody said that it may."""


def remember(folder, sha256):
    """Puts the SHA-256 of a manifest or file that was made here on the user's list. Raises OSError."""
    os.makedirs(os.path.join(folder, FOLDER), mode=0o700, exist_ok=True)
    with open(os.path.join(folder, FOLDER, sha256), "w"):
        pass


def is_remembered(folder, sha256):
    """Whether `remember` was called with it. `folder`: None where there is none."""
    return folder is not None and os.path.isfile(os.path.join(folder, FOLDER, sha256.lower()))


def require_trust(manifest, parts, trust, folder):
    """Raises UntrustedBundle for the first of `parts` that would run code and may not.

    Args: trust: the user says that it may. folder: the user's cache folder, or None.
    """
    for part in [part for part in parts if part.form in FORMS]:
        entry = manifest.listed.get(part.file)  # an engine that is not built yet has none
        if trust or entry is None or is_remembered(folder, manifest.sha256) or is_remembered(folder, entry["sha256"]):
            continue
        raise UntrustedBundle("%s is in the form %s: loading it runs %s of whoever made %s, which was not made here" % (
            part.file, part.form, FORMS[part.form], manifest.root),
            "load it with --trust (in Python: trust=True) if you trust where it is from")
