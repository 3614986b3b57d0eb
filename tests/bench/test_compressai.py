"""Reading result files of CompressAI, from one written by hand in both of its forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vcframe.bench.compressai import read_compressai
from vcframe.codec import UsageError

NEW = {
    "name": "made-hyperprior",
    "description": "Inference (ans)",
    "results": {
        "psnr-rgb": [30.5, 28.0, 33.25],
        "ms-ssim-rgb": [0.95, 0.92, 0.975],
        "bpp": [0.25, 0.125, 0.5],
        "encoding_time": [0.2, 0.1, 0.3],
    },
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "made.json"
    path.write_text(json.dumps(content))
    return path


def test_a_curve_goes_by_growing_rate(tmp_path: Path) -> None:
    curve = read_compressai(written(tmp_path, NEW))
    assert (curve.name, curve.description) == ("made-hyperprior", "Inference (ans)")
    assert curve.bpp == (0.125, 0.25, 0.5)
    assert curve.metrics == {"psnr": (28.0, 30.5, 33.25), "ms_ssim": (0.92, 0.95, 0.975)}


def test_older_files_have_shorter_names(tmp_path: Path) -> None:
    curve = read_compressai(written(tmp_path, {"results": {"bpp": [0.1], "psnr": [25.0]}}))
    assert (curve.name, curve.metrics) == ("made", {"psnr": (25.0,)})


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ({"psnr": [25.0]}, "no 'bpp'"),
        ({"bpp": [0.1], "vif": [1.0]}, "none of the metrics psnr"),
        ({"bpp": [0.1, 0.2], "psnr": [25.0]}, "lists of different lengths"),
        ({"bpp": [0.0], "psnr": [25.0]}, "no rates above 0"),
        ({"bpp": [0.1], "psnr": [float("nan")]}, "not finite"),
        ({"bpp": [0.1], "ms-ssim": [13.5]}, "not in decibels"),
        ({"bpp": 0.1, "psnr": 25.0}, "not iterable"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, results: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_compressai(written(tmp_path, {"results": results}))


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    path.write_text("rate,psnr")
    with pytest.raises(UsageError, match=r"made\.json is no result file of CompressAI"):
        read_compressai(path)
    with pytest.raises(UsageError, match="No such file"):
        read_compressai(tmp_path / "absent.json")
