"""What the tests of the command line share: calling it in process, and a model that does nothing."""

from __future__ import annotations

from typing import Any

import torch
from typer.testing import CliRunner, Result

from vcframe.cli import app
from vcframe.model import Card, Model
from vcframe.networks import build_networks
from vcframe.registry import Registry


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    """The one line of an error, without its prefix."""
    result = run(*arguments)
    lines = result.stderr.splitlines()
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("vcframe: error: ")
    return lines[0].removeprefix("vcframe: error: ")


def fresh_model(name: str, scale: int = 2, seed: int = 1, **options: Any) -> Model:
    """Plain bicubic resampling: the residuals of fresh networks are zero."""
    torch.manual_seed(seed)
    codec = Registry.load().codec(name, **options)
    training = {"minutes": 7.5, "steps": 1234, "data": "leaves", "validation_bd_rate_percent": -12.34}
    card = Card(
        codec=codec.config(),
        codec_version=codec.version(),
        preset="small",
        block=codec.traits.block,
        channels=3,
        training={scale: training},
        vcframe_version="any",
    )
    return Model(card, {scale: build_networks("small", scale, codec.traits.block)})
