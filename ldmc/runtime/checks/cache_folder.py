"""The user's cache folder: what is known of bundles and must not lie in them, where it would vouch for itself.

    ~/.cache/ldmc/hashes/HASH-PLACE.json    SHA-256 of files that were checked (hash_record)
    ~/.cache/ldmc/trusted/HASH              manifests and files that were made here (trust)
"""

import os
import stat


def default_cache_folder():
    """`$XDG_CACHE_HOME/ldmc`, or `~/.cache/ldmc`; "" where the user has no home. The one place that looks for it."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):  # as the XDG specification says: a relative one is ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "ldmc") if os.path.isabs(base) else ""


def usable_cache_folder(folder, root):
    """Makes `folder` where it is not there.

    Args: root: the bundle's folder, in which it must not lie.
    Returns: (folder, ""), or (None, why it cannot be used).
    """
    if not folder:
        return None, "there is no home folder"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        status = os.stat(folder)
    except OSError as problem:
        return None, "%s: %s" % (folder, problem.strerror or problem)
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & stat.S_IWOTH):
        return None, "%s can be written by other users" % folder
    if os.path.join(os.path.realpath(folder), "").startswith(os.path.join(os.path.realpath(root), "")):
        return None, "%s is in the bundle" % folder
    if not os.access(folder, os.W_OK | os.X_OK):
        return None, "%s cannot be written" % folder
    return folder, ""
