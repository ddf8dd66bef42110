"""PyTorch's archives (`.ts`, `.pt2`) without what they say of the machine they were made on.

    model.ts    code/...py, code/...py.debug_pkl, constants/0   ->   code/...py, constants/0
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

# The format's version, under one of two names; and what else the writer adds itself.
_VERSIONS = ("version", ".data/version")
_OWN = (*_VERSIONS, ".data/serialization_id", "byteorder")


def rewrite(file: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Replace `file`, entry by entry, by what `change` makes of each name and content; None leaves the entry out.

    Needs the file's size once more on its disk, and memory for the largest entry.
    """
    import torch

    before = file.with_name(f"{file.name}.before")
    file.replace(before)
    try:
        reader, writer = torch._C.PyTorchFileReader(str(before)), torch._C.PyTorchFileWriter(str(file))
        names = reader.get_all_records()
        for name in names:
            content = change(name, reader.get_record(name)) if name not in _OWN else None
            if content is not None:
                writer.write_record(name, content, len(content))
        for version in (name for name in names if name in _VERSIONS):
            writer.set_min_version(int(reader.get_record(version)))
        writer.write_end_of_file()
    finally:
        before.unlink()
