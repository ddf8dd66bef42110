"""What `load` checks before an engine sees a file, in order: trust, then hashes; and what it keeps of that."""

from ..manifest import check_files
from .cache_folder import default_cache_folder, usable_cache_folder
from .hash_record import HashRecord
from .inventory import VERIFICATION_FAILED, check_graphs, check_listed, check_reads, check_unlisted
from .trust import require_trust


class Vouched(object):
    """What stands behind a bundle's files: the user's word, and what the user's cache folder has of them.

    Args:
        manifest: Manifest.
        trust: whether the user lets native code and scripts of the bundle be loaded.
        folder: the user's cache folder; None for the usual one.
    Attributes: `record` (HashRecord), `why_not_kept` ("" or why there is no cache folder).
    """

    def __init__(self, manifest, trust=False, folder=None):
        self.manifest = manifest
        self._trust = trust
        wanted = default_cache_folder() if folder is None else str(folder)
        self._folder, self.why_not_kept = usable_cache_folder(wanted, manifest.root)
        self.record = HashRecord(self._folder, manifest)

    def require(self, parts):
        """Raises UntrustedBundle where one of `parts` would run code that nobody vouches for."""
        require_trust(self.manifest, parts, self._trust, self._folder)

    def require_all(self):
        """The same for all parts of the bundle."""
        for name in sorted(self.manifest.components):
            self.require(self.manifest.components[name].parts)

    def check(self, verify, remarks):
        """Checks all parts: that they may be loaded, and that their files are the listed ones.

        Args: verify: read every file of the bundle again, and refuse files that are not listed. remarks: list of str.
        Raises: BundleProblem.
        """
        self.require_all()
        if verify:
            self.check_whole()
        check_reads(self.manifest, self.record)
        problem = self.why_not_kept or self.record.save()
        if problem:
            remarks.append("no hash and no optimised graph can be kept (%s), so every load reads all files and takes "
                           "longer: set XDG_CACHE_HOME to a folder that can be written" % problem)

    def check_whole(self):
        """Checks that all listed files are as listed, read anew, and that there are no others. Raises BundleProblem."""
        check_unlisted(self.manifest)
        check_files(self.manifest.root, self.manifest, VERIFICATION_FAILED)
        check_listed(self.manifest, self.record)
        check_graphs(self.manifest, self.record)
        self.record.save()  # where that fails, `check` says so
