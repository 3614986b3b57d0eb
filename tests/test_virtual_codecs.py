"""The stand-ins of benchmarks/virtual_codecs, against the real codec."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from benchmark_scripts import load_script

from vcframe.images import to_image, to_tensor
from vcframe.metrics import psnr
from vcframe.registry import Registry


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", [13, 50, 90])
def test_analytic_jpeg_is_close_to_libjpeg(quality: int, subsampling: str) -> None:
    codec = Registry.load().codec("jpeg", subsampling=subsampling)
    virtual = load_script("virtual_codecs/analytic_jpeg").vcframe_virtual_codec(codec)
    picture = np.ascontiguousarray(skimage.data.astronaut()[:100, :120])
    real, num_bytes = codec.roundtrip(picture, quality)
    unit_B = torch.tensor([codec.quality_scale.unit(quality)])
    with torch.no_grad():
        decoded, bits_B = virtual(to_tensor([picture]), unit_B)
    # An eighth of a step at most is left by the soft rounding, against half a step and the dead zone.
    assert psnr(to_image(decoded[0]), real) > psnr(picture, real) + 6
    assert 0.2 < float(bits_B) / (8 * num_bytes) < 3


def test_analytic_jpeg_takes_grey_and_gives_slopes() -> None:
    codec = Registry.load().codec("jpeg")
    virtual = load_script("virtual_codecs/analytic_jpeg").vcframe_virtual_codec(codec)
    x = torch.rand(2, 1, 17, 9, requires_grad=True)
    decoded, bits_B = virtual(x, torch.tensor([0.2, 0.8]))
    assert decoded.shape == x.shape
    assert bits_B[1] > bits_B[0]
    for output in (decoded.sum(), bits_B.sum()):
        (gradient,) = torch.autograd.grad(output, x, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.any()


def test_who_offers_what() -> None:
    registry = Registry.load()
    jpeg, webp = registry.codec("jpeg"), registry.codec("webp")
    assert load_script("virtual_codecs/analytic_jpeg").vcframe_virtual_codec(webp) is None
    for codec in (jpeg, webp):
        identity = load_script("virtual_codecs/identity").vcframe_virtual_codec(codec)
        x = torch.rand(1, 3, 8, 8, requires_grad=True)
        decoded, bits_B = identity(x, torch.tensor([0.5]))
        assert torch.equal(decoded, x)
        assert bits_B.tolist() == [64]
        (gradient,) = torch.autograd.grad(bits_B.sum(), x)
        assert not gradient.any()
