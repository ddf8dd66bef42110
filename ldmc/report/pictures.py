"""Pictures from the same noise, side by side: the baseline's, each level's, and ten times the difference.

baseline   level      |level - baseline| x 10
[face]     [face]     [almost black]              PSNR 69.1 dB
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldmc.report.inputs import Json
from ldmc.report.units import decibels
from ldmc.runtime.png import encode_png

ENLARGED = 10
_PEAK = 255
_MOST_PIXELS = 8192  # a side
_SMALL_PIXELS = 128  # pictures below this are shown as the pixels they are


@dataclass(frozen=True)
class Picture:
    """One level's picture. image, difference: data URIs, or "" with the reason in why or why_no_difference."""

    title: str
    image: str
    difference: str = ""
    caption: str = ""
    why: str = ""
    why_no_difference: str = ""
    is_baseline: bool = False
    pixelated: bool = False


def pictures(levels: Sequence[Json]) -> tuple[Picture, ...]:
    """One for every level, the baseline first: it is the first level that is a baseline and has a picture."""
    decoded = [_decode(level.get("picture_png")) for level in levels]
    base = next(
        (i for i, level in enumerate(levels) if level.get("kind") == "baseline" and decoded[i] is not None), None
    )
    reference = None if base is None else decoded[base]
    order = sorted(range(len(levels)), key=lambda index: index != base)
    return tuple(_picture(levels[index], decoded[index], reference, index == base) for index in order)


def _picture(level: Json, image: Any, reference: Any, is_baseline: bool) -> Picture:
    title = level["title"]
    if image is None:
        said = level.get("why") or (level.get("absent") or {}).get("picture_png") or "the result has no picture of it"
        if level.get("picture_png"):
            said = "its picture is not a PNG that can be read"
        return Picture(title, "", why=said)
    shown, small = _uri(image), max(image.shape[:2]) < _SMALL_PIXELS
    if is_baseline:
        return Picture(
            title, shown, caption="the baseline: the others are compared with it", is_baseline=True, pixelated=small
        )
    caption = _quality(level)
    if reference is None:
        return Picture(
            title, shown, caption=caption, why_no_difference="there is no baseline's picture", pixelated=small
        )
    if reference.shape != image.shape:
        return Picture(
            title,
            shown,
            caption=caption,
            why_no_difference="it is of another size than the baseline's",
            pixelated=small,
        )
    return Picture(title, shown, _uri(difference(image, reference)), caption, pixelated=small)


def _quality(level: Json) -> str:
    if level.get("identical"):
        return "identical to the baseline's"
    if level.get("psnr_db") is not None:
        return f"PSNR {decibels(level['psnr_db'])}"
    return f"PSNR: {(level.get('absent') or {}).get('psnr_db') or 'the result does not say why there is none'}"


def difference(image: Any, reference: Any) -> Any:
    """Absolute difference, ten times enlarged and cut at white. Both uint8[H, W, 3]; so is what comes back."""
    apart = np.abs(image.astype(np.int32) - reference.astype(np.int32)) * ENLARGED
    return np.minimum(apart, _PEAK).astype(np.uint8)


def _decode(encoded: Any) -> Any:
    """uint8[H, W, 3] of a PNG in base64; None where there is none or it cannot be read."""
    if not isinstance(encoded, str) or not encoded:
        return None
    from matplotlib.image import imread

    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    if not _is_drawable(content):
        return None
    try:
        values = np.asarray(imread(io.BytesIO(content), format="png"))
    except Exception:  # noqa: BLE001  Pillow raises SyntaxError, zlib.error and others
        return None
    values = np.atleast_3d(values)
    if values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return np.ascontiguousarray(np.rint(values[:, :, :3] * _PEAK).astype(np.uint8))


def _is_drawable(content: bytes) -> bool:
    """Whether this begins as a PNG does, of a size that pictures have: a few bytes can unpack to gigabytes."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        return False
    width, height = (int.from_bytes(content[place : place + 4], "big") for place in (16, 20))
    return 0 < width <= _MOST_PIXELS and 0 < height <= _MOST_PIXELS


def _uri(image: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")
