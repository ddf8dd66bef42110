"""Memory that is freed goes back to the system at once, where it was asked for."""

import json
import platform
import subprocess
import sys

import pytest

# 8 blocks of 20 MiB, then small ones between them, then all but these are freed.
FREED = """
import ctypes, json, sys
from ldmc.runtime import memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "map":
    memory.map_large_blocks()
def block(size):
    pointer = libc.malloc(size)
    ctypes.memset(pointer, 1, size)
    return pointer
libc.free(block(30 << 20))  # after this, glibc takes smaller ones from its heap
before = memory.private_bytes()
held = []
for _ in range(8):
    held.append((block(20 << 20), block(100 << 10)))
for large, _ in held:
    libc.free(large)
print(json.dumps((memory.private_bytes() - before) >> 20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_large_blocks_go_back_when_they_are_freed():
    def left_mib(how):
        return json.loads(subprocess.check_output([sys.executable, "-c", FREED, how]))

    assert left_mib("keep") > 60
    assert left_mib("map") < 5
