"""JPEG written down: colour transform, 8x8 cosine transform, soft rounding, a logarithmic count of bits.

The quantisation tables and the subsampling are read from the codec's own files, so every option is honoured.

vcframe --plugin benchmarks/virtual_codecs/analytic_jpeg.py train --codec jpeg --out runs/analytic
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np

from vcframe import Codec, hookimpl

YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""ITU-T T.871 (JFIF), zero-centred."""


@hookimpl
def vcframe_virtual_codec(codec: Codec) -> Any:
    """A differentiable JPEG without trainable parameters; None for other codecs."""
    return make_analytic_jpeg(codec) if codec.name == "jpeg" else None


def make_analytic_jpeg(codec: Codec) -> Any:
    """The module; torch is imported only now."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    def cosines() -> Tensor:
        order, place = torch.arange(8)[:, None], torch.arange(8)[None, :]
        rows: Tensor = torch.cos(torch.pi * (2 * place + 1) * order / 16) / 2
        rows[0] /= 2**0.5
        return torch.kron(rows, rows)[:, :, None, None]

    @lru_cache(maxsize=256)
    def tables(unit: float) -> tuple[tuple[Tensor, ...], bool]:
        """Steps of the luma and chroma coefficients, raster order, and whether chroma is halved."""
        from PIL import Image, JpegImagePlugin

        flat = np.full((16, 16, 3), 128, np.uint8)
        with Image.open(io.BytesIO(codec.encode(flat, codec.quality_scale.native(unit)))) as file:
            assert isinstance(file, JpegImagePlugin.JpegImageFile)
            steps = tuple(torch.tensor(file.quantization[k]).view(64, 1, 1) / 255 for k in (0, 1))
            return steps, JpegImagePlugin.get_sampling(file) == 2

    class AnalyticJpeg(nn.Module):
        cosines: Tensor
        colour: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cosines", cosines(), persistent=False)
            self.register_buffer("colour", torch.tensor(YCBCR)[:, :, None, None], persistent=False)

        def forward(self, x_BCHW: Tensor, unit_B: Tensor) -> tuple[Tensor, Tensor]:
            """Colour pictures in 0..1 to the decoded ones, and the sum of log2(1 + |level|), `(B,)`."""
            coded = [self.code(x[None], unit) for x, unit in zip(x_BCHW, unit_B.tolist(), strict=True)]
            return torch.cat([decoded for decoded, _ in coded]), torch.stack([bits for _, bits in coded])

        def code(self, x_BCHW: Tensor, unit: float) -> tuple[Tensor, Tensor]:
            (luma_steps, chroma_steps), halved = tables(unit)
            height, width = x_BCHW.shape[-2:]
            colour = x_BCHW.expand(-1, 3, -1, -1)  # grey is coded as three equal channels
            padded = F.pad(colour - 128 / 255, (0, -width % 16, 0, -height % 16), mode="replicate")
            planes = F.conv2d(padded, self.colour)
            luma, bits = self.plane(planes[:, :1], luma_steps)
            chroma = F.avg_pool2d(planes[:, 1:], 2) if halved else planes[:, 1:]
            for_both = [self.plane(plane, chroma_steps) for plane in chroma.chunk(2, 1)]
            chroma = torch.cat([plane for plane, _ in for_both], 1)
            if halved:
                # What libjpeg calls fancy upsampling: weights of 3/4 and 1/4.
                chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
            inverse = self.colour[:, :, 0, 0].inverse()[:, :, None, None]
            decoded = F.conv2d(torch.cat([luma, chroma], 1), inverse) + 128 / 255
            if x_BCHW.shape[1] == 1:
                decoded = decoded[:, :1]
            return decoded[..., :height, :width].clamp(0, 1), bits + sum(b for _, b in for_both)

        def plane(self, plane_B1HW: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
            levels = F.conv2d(F.pixel_unshuffle(plane_B1HW, 8), self.cosines) / steps.to(plane_B1HW)
            # Shin and Song, "JPEG-resistant adversarial images" (2017): rounding with a slope.
            rounded = levels.round() + (levels - levels.round()) ** 3
            blocks = F.conv2d(rounded * steps.to(plane_B1HW), self.cosines.transpose(0, 1))
            return F.pixel_shuffle(blocks, 8), torch.log2(1 + rounded.abs()).sum()

    return AnalyticJpeg()
