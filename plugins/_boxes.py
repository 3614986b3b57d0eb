"""Payloads in files made of boxes (ISO/IEC 14496-12, clause 4.2): AVIF, HEIC and JPEG XL.

The payload is a box of a private type at the end of the file; readers ignore types that they do not know.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vcframe import CodecError

PAYLOAD_BOX = b"vcfr"


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """`(type, start, start of the body, end)` of each box, up to damage or a box that states no length."""
    start = 0
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if length == 1 and start + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, body)
            body += 8
        end = start + length
        if not body <= end <= len(data):
            return
        yield kind, start, body, end
        start = end


def append_box(data: bytes, body: bytes, kind: bytes = PAYLOAD_BOX) -> bytes:
    """Add a box at the end; raises `CodecError` where `data` is no complete row of boxes."""
    if _last(data) is None:
        raise CodecError("the boxes of the file do not end where the file ends")
    return data + struct.pack(">I4s", 8 + len(body), kind) + body


def cut_box(data: bytes, kind: bytes = PAYLOAD_BOX) -> tuple[bytes, bytes] | None:
    """Inverse of `append_box`: `(data, body)`, or None where the last box is of another type."""
    last = _last(data)
    if last is None or last[0] != kind:
        return None
    _, start, body, _ = last
    return data[:start], data[body:]


def _last(data: bytes) -> tuple[bytes, int, int, int] | None:
    """The last box, or None where the boxes do not fill the file."""
    found = list(boxes(data))
    return found[-1] if found and found[-1][3] == len(data) else None
