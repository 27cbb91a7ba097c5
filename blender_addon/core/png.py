"""Whether a PNG can be shown, found out without decoding it."""

import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
"""By the color type of the file: RGB, RGBA."""
_LARGEST = 16384
"""Pixels along a side."""


def is_whole(data: bytes) -> bool:
    """Whether a file is a PNG of 8-bit RGB or RGBA without a flaw; other kinds of PNG, fine or not, are not known here.

    Checksums, lengths and the filter of each line are looked at, as a decoder would (PNG specification, sections 5 and 9).
    """
    if not data.startswith(_SIGNATURE):
        return False
    at, parts, header, ended = len(_SIGNATURE), [], None, False
    while at + 12 <= len(data) and not ended:
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data) or struct.unpack_from(">I", data, at + 8 + length)[0] != zlib.crc32(body):
            return False
        if kind == b"IHDR" and header is None and length == 13:
            header = struct.unpack_from(">IIBBBBB", body, 4)
        elif kind == b"IDAT":
            parts.append(body[4:])
        ended = kind == b"IEND"
        at += 12 + length
    if header is None or not ended:
        return False
    width, height, depth, color, *rest = header
    if not (0 < width <= _LARGEST and 0 < height <= _LARGEST) or depth != 8 or color not in _CHANNELS or any(rest):
        return False
    line = 1 + _CHANNELS[color] * width
    try:
        pixels = zlib.decompressobj().decompress(b"".join(parts), line * height + 1)
    except zlib.error:
        return False
    return len(pixels) == line * height and int(np.frombuffer(pixels, np.uint8)[::line].max()) <= 4
