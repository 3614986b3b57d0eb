"""Pillow opens `.vcf` files, restored, after `vcframe.pillow.register()`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageFile

from vcframe.api import decompress, registry
from vcframe.codec import VcframeError
from vcframe.registry import guarded
from vcframe.stream import CONTAINER_EXTENSION, is_container, unpack

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

FORMAT = "VCF"


def register() -> None:
    """Let `PIL.Image.open` take files in the generic container; a second call does no harm.

    Files in a codec's own format stay with Pillow's own readers: `Image.open("photo.jpg")` gives what it
    always gave, the description. `VcfImageFile("photo.jpg")` restores one of those.

    >>> import PIL.Image
    >>> import vcframe
    >>> vcframe.pillow.register()
    >>> PIL.Image.registered_extensions()[".vcf"]
    'VCF'
    """
    PIL.Image.register_open(FORMAT, VcfImageFile, is_container)
    PIL.Image.register_extension(FORMAT, CONTAINER_EXTENSION)


class VcfImageFile(PIL.ImageFile.ImageFile):
    """A file with a payload, in the generic container or a codec's own format.

    Size and mode (`RGB` or `L`) are known at once; loading restores. As Pillow's own readers, it raises
    `SyntaxError` for a file that is not its business, one without a payload, and `OSError` for what is wrong
    with one that is: the line of the `VcframeError` that is its cause.
    """

    format = FORMAT
    format_description = "vcframe"

    def _open(self) -> None:
        assert self.fp is not None
        self._data: bytes | None = self.fp.read()
        try:
            self._read_header(self._data)
        except VcframeError as error:
            raise OSError(str(error)) from error

    def _read_header(self, data: bytes) -> None:
        unpacked = unpack(data, [record.codec() for record in registry().codecs.values()])
        if unpacked is None:
            raise SyntaxError("not a file with a vcframe payload")
        codec = registry().codec(unpacked.codec_name)
        with guarded(codec):
            coded_height, coded_width, channels = codec.probe(unpacked.stream)
        height, width = unpacked.payload.size((coded_height, coded_width))
        self._size = width, height
        self._mode = "L" if unpacked.payload.grey or channels == 1 else "RGB"

    def load(self) -> PixelAccess | None:
        """Restore, the first time that pixels are asked for."""
        if self._data is not None:
            try:
                image = decompress(self._data)
            except VcframeError as error:
                raise OSError(str(error)) from error
            # As Pillow's WebP reader does: the samples take the place of the file.
            if self.fp is not None and self._exclusive_fp:
                self.fp.close()
            self._data, self.fp = None, io.BytesIO(image.tobytes())
            self.tile = [PIL.ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]
        return super().load()
