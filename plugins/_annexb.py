"""What H.264, H.265 and H.266 share: byte streams of NAL units (their annex B), and the bits inside.

Every file of ours ends with a closing NAL unit: FFmpeg conceals a missing end without a word, so a file
without it is known to be truncated. Its one byte also holds what the cropping window, which counts chroma
samples, cannot say: whether a side is odd in 4:2:0. Payloads travel in a NAL unit before it. Both have
unspecified types, which decoders drop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vcframe import CodecError

START = b"\0\0\1"
PAYLOAD_MARK = b"vc"


@dataclass(frozen=True)
class Units:
    """The two units of ours, by the NAL unit headers that they have in one codec."""

    codec: str
    closing_header: bytes
    payload_header: bytes

    def close(self, data: bytes, odd_width: bool, odd_height: bool) -> bytes:
        """Append the closing unit; the flags are those of a 4:2:0 picture."""
        return data + START + self.closing_header + bytes([0x80 | odd_width << 1 | odd_height])

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Split off the closing unit."""
        closing = START + self.closing_header
        size = len(closing) + 1
        if not data.startswith(closing, max(len(data) - size, 0)) or not data[-1] & 0x80:
            raise CodecError(
                f"{self.codec}: the file is truncated, or was not written by this codec: no closing unit"
            )
        return data[:-size], data[-size:]

    def odd(self, data: bytes) -> tuple[int, int]:
        """`(odd_width, odd_height)` of the closing unit."""
        flags = self.split(data)[1][-1]
        return flags >> 1 & 1, flags & 1

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Put a payload unit before the closing unit."""
        head, closing = self.split(data)
        # The last byte of a NAL unit must not be zero.
        return head + START + self.payload_header + escape(PAYLOAD_MARK + payload + b"\x80") + closing

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut the payload unit, the last but one."""
        try:
            head, closing = self.split(data)
        except CodecError:
            return None
        start = max(head.rfind(START), 0)
        if not head.startswith(START + self.payload_header, start):
            return None
        body = unescape(head[start + len(START) + len(self.payload_header) :])
        if not (body.startswith(PAYLOAD_MARK) and body.endswith(b"\x80")):
            return None
        return head[:start] + closing, body[len(PAYLOAD_MARK) : -1]


def split_units(data: bytes) -> Iterator[bytes]:
    """Split a byte stream into NAL units, start codes included; joined they are `data` again."""
    start = data.find(START)
    begin = 0
    while start >= 0:
        following = data.find(START, start + 3)
        end = len(data) if following < 0 else following
        # A four-byte start code belongs to the unit that it starts.
        if following > 0 and data[end - 1] == 0:
            end -= 1
        yield data[begin:end]
        begin, start = end, following


def header_at(unit: bytes) -> int:
    """Where the NAL unit header begins."""
    return unit.find(START) + 3


def unescape(body: bytes) -> bytes:
    """Remove emulation prevention bytes (clause 7.3.1)."""
    return body.replace(b"\0\0\3", b"\0\0")


def escape(body: bytes) -> bytes:
    """Insert emulation prevention bytes (clause 7.4.1 of H.264, 7.4.2 of H.265 and H.266)."""
    out = bytearray()
    zeros = 0
    for byte in body:
        if zeros == 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


class Bits:
    """Reads a parameter set, most significant bit first; raises `ValueError` past its end."""

    def __init__(self, data: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in data)
        self.position = 0

    def fixed(self, count: int) -> int:
        """The descriptor u(n)."""
        self.position += count
        if self.position > len(self.bits):
            raise ValueError("past the end")
        return int("0" + self.bits[self.position - count : self.position], 2)

    def align(self) -> None:
        """Go on to the next byte, if not at the beginning of one."""
        self.fixed(-self.position % 8)

    def golomb(self) -> int:
        """The descriptor ue(v), an exponential Golomb code (clause 9.1 of H.264, 9.2 of H.265)."""
        zeros = self.bits.index("1", self.position) - self.position
        self.fixed(zeros)
        return self.fixed(zeros + 1) - 1
