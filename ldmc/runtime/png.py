"""Pictures out: PNG files and grids, with the standard library alone (https://www.w3.org/TR/png/)."""

import struct
import zlib

import numpy as np

from .errors import BundleProblem, InputProblem
from .files import write_whole


def encode_png(image):
    """The bytes of a PNG. image: uint8, H x W x 3. Raises InputProblem for anything else."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputProblem("the picture is %s%s, expected uint8[H, W, 3]" % (image.dtype, list(image.shape)))
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + width * 3), dtype=np.uint8)  # each row opens with its filter type: 0, none
    rows[:, 1:] = image.reshape(height, width * 3)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    body = zlib.compress(rows.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def write_png(path, image):
    """Writes a picture (uint8, H x W x 3) to `path`: whole or not at all. Raises BundleProblem, InputProblem."""
    content = encode_png(image)
    try:
        write_whole(path, content)
    except OSError as problem:
        message = "cannot write the picture %s: %s" % (path, problem.strerror or problem)
        raise BundleProblem(message, "give a path in a folder that exists and can be written")


def grid(images, columns=None):
    """Pictures side by side, row after row; places left over are black.

    Args: images: uint8, N x H x W x 3. columns: pictures per row; the smallest square that holds them by default.
    Returns: uint8, (rows * H) x (columns * W) x 3.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[0] == 0:
        raise InputProblem("the pictures are of shape %s, expected [N, H, W, 3]" % (list(images.shape),))
    count, height, width, channels = images.shape
    if columns is None:
        columns = int(np.ceil(np.sqrt(count)))
    if columns < 1:
        raise InputProblem("a grid of %d columns cannot be drawn" % columns, "use 1 or more")
    columns = min(columns, count)
    rows = -(-count // columns)
    canvas = np.zeros((rows * columns, height, width, channels), dtype=images.dtype)
    canvas[:count] = images
    canvas = canvas.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(canvas.reshape(rows * height, columns * width, channels))


def _chunk(kind, content):
    checksum = zlib.crc32(kind + content) & 0xFFFFFFFF
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
