"""SHA-256 of files and texts."""

import hashlib
import io

CHUNK_BYTES = 1 << 20


def sha256_of_file(path):
    """SHA-256 of a file as 64 hexadecimal digits, read in pieces of 1 MiB. Raises OSError."""
    digest = hashlib.sha256()
    with io.open(path, "rb", buffering=0) as stream:
        for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_text(text):
    """SHA-256 of a str as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
