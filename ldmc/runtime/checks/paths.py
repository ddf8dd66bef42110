"""Paths that a manifest names: the one place that turns them into paths of this machine."""

import os
import re

from ..errors import BundleProblem

OUTSIDE = "build the bundle again with `ldmc build`, or copy it again whole, links replaced by files (cp -rL)"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def inside(root, relative, where):
    """The path of `relative`, a path with forward slashes, in the folder `root`; it need not exist.

    Args: where: who names it, for the message.
    Raises: BundleProblem where it is absolute, or leaves `root` by `..` or by a symbolic link; and for names with
        control characters or a leading dash, which programs take for an option.
    """
    parts = relative.replace("\\", "/").split("/")
    if not relative or os.path.isabs(relative) or ":" in parts[0] or parts[0] == "" or ".." in parts:
        raise BundleProblem("%s names a file outside the bundle: %r" % (where, relative), OUTSIDE)
    if _CONTROL.search(relative) or any(part.startswith("-") for part in parts):
        raise BundleProblem("%s names a file that no bundle has: %r" % (where, relative), OUTSIDE)
    path = os.path.join(root, *parts)
    if not is_inside(path, root):
        message = "%s names a file outside the bundle: %r is behind a symbolic link to %s" % (
            where, relative, os.path.realpath(path))
        raise BundleProblem(message, OUTSIDE)
    return path


def is_inside(path, root):
    """Whether `path` is in the folder `root` when all symbolic links are followed."""
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(root), ""))
