"""Damage to weight files: the header of a safetensors file, its length, the index of shards, a pickle."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from benchmarks.mutations.documents import damaged_bytes, damaged_json

_LENGTHS = (0, 1, 7, 2**20, 2**31, 2**40, 2**63, 2**64 - 1)


def damaged_safetensors(rng: random.Random, content: bytes) -> bytes:
    """`content` with another header, another length of it, or damaged bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = rng.randrange(10)
    if kind == 0:
        return struct.pack("<Q", rng.choice(_LENGTHS)) + content[8:]
    if kind == 1:
        return damaged_bytes(rng, content[: rng.choice((8, length, length + 8, len(content)))])
    changed = damaged_json(rng, header) if kind < 6 else json.dumps(_damaged_tensor(rng, header)).encode()
    return struct.pack("<Q", len(changed)) + changed + body


def _damaged_tensor(rng: random.Random, header: dict[str, Any]) -> dict[str, Any]:
    """One tensor said to be of another dtype, shape or place."""
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    if rng.random() < 0.4:
        entry["dtype"] = rng.choice(("F16", "F64", "I64", "F8_E4M3", "C64", "BOOL", "f32", "", None, 7))
    elif rng.random() < 0.5:
        entry["shape"] = rng.choice(([], [0], [-1], [2**62, 2**62], [1] * 3000, [1.5], "x", [*entry["shape"], 1]))
    else:
        start, end = entry["data_offsets"]
        entry["data_offsets"] = rng.choice(([end, start], [0, 2**63], [start, end + 4], [-4, end], [start], None))
    return header


def damaged_index(rng: random.Random, name: str, keys: list[str]) -> bytes:
    """An index of shards, all of them in file `name`, damaged."""
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(keys, name)}
    return damaged_json(rng, index)
