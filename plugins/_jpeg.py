"""JPEG files, whoever wrote them: read through Pillow (libjpeg-turbo), payloads carried.

Payloads travel in a COM segment right after SOI (ISO/IEC 10918-1, B.2.4.5), which every decoder skips.
"""

from __future__ import annotations

import io
import struct
from typing import ClassVar

import numpy as np

from vcframe import Codec, CodecError, Image

SOI, COM = b"\xff\xd8", b"\xff\xfe"
MAX_COMMENT_BYTES = 65533


class JpegFiles(Codec):
    """What codecs that write JPEG have in common."""

    payload_mark: ClassVar[bytes]
    """Two bytes before a payload: they tell by which codec it was put there."""

    def decode(self, data: bytes) -> Image:
        """Decode with Pillow, which refuses truncated data; grey stays `(H, W)`, all else becomes RGB."""
        from PIL import JpegImagePlugin

        height, width, channels = self.check_stream(data)
        try:
            # The plugin's own class, not Image.open: no other format may answer for these bytes.
            with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as file:
                # A second frame header must not undo the pixel limit.
                if file.size != (width, height):
                    raise CodecError(f"{self.name}: two headers, {(width, height)} and {file.size}")
                mode = "L" if channels == 1 else "RGB"
                # `convert` copies even where there is nothing to convert: 400 MB for 100 megapixels.
                return np.array(file if file.mode == mode else file.convert(mode))
        except Exception as error:
            raise CodecError(f"{self.name}: decoding failed: {error}") from error

    def probe(self, data: bytes) -> tuple[int, int, int]:
        """Read the frame header (SOF) by walking the marker segments."""
        if data[:2] != SOI:
            raise CodecError(f"{self.name}: not a JPEG file (no SOI marker)")
        position = 2
        while position + 4 <= len(data) and data[position] == 0xFF:
            marker = data[position + 1]
            if marker == 0xFF:
                position += 1
                continue
            (length,) = struct.unpack_from(">H", data, position + 2)
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                if length < 8 or position + 10 > len(data):
                    break
                height, width, channels = struct.unpack_from(">HHB", data, position + 5)
                return height, width, 1 if channels == 1 else 3
            if marker == 0xDA or length < 2:
                break
            position += 2 + length
        raise CodecError(f"{self.name}: no frame header found")

    def embed(self, data: bytes, payload: bytes) -> bytes:
        """Splice a COM segment after SOI."""
        if data[:2] != SOI:
            raise CodecError(f"{self.name}: not a JPEG file (no SOI marker)")
        body = self.payload_mark + payload
        if len(body) > MAX_COMMENT_BYTES:
            raise CodecError(f"{self.name}: a payload of {len(payload)} bytes does not fit in a COM segment")
        return SOI + COM + struct.pack(">H", len(body) + 2) + body + data[2:]

    def extract(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Cut the COM segment after SOI, where it is ours."""
        if data[:4] != SOI + COM or data[6:8] != self.payload_mark:
            return None
        end = 4 + struct.unpack_from(">H", data, 4)[0]
        if end < 8 or end > len(data):
            return None
        return SOI + data[end:], data[8:end]
