"""Two names of folders exchanged in one step, where the system can: at no instant is one of them without a folder.

    .x.ldmc.tmp-17 (new)   x.ldmc (old)   ->   .x.ldmc.tmp-17 (old)   x.ldmc (new)
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# From Linux' fcntl.h and fs.h; see renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one folder's file system; False, and nothing done, where the system or the disk cannot.

    Linux has it since 3.15, its C library since glibc 2.28 and musl 1.2.6; not every file system takes part.
    """
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    paths = [os.fsencode(path) for path in (one, other)]
    return bool(call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)
