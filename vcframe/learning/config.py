"""What a training run is told: validated once, written to the run folder before the first step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vcframe.codec import UsageError
from vcframe.networks import Preset, scales_of

Schedule = Literal["joint", "post", "adaptation", "paper", "virtual"]
"""`post`: the post-processing network alone, behind plain resampling. `adaptation`: that of a given model,
with the network that it corrects. `virtual`: a virtual codec alone."""
PhaseName = Literal["post", "virtual", "description", "joint", "finish", "adaptation"]


class TrainConfig(BaseModel):
    """One training run. `TrainConfig.checked(...)` turns validation errors into one clear line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    codec: dict[str, Any]
    """`Codec.config()` of the codec to train around."""
    schedule: Schedule = "joint"
    preset: Preset = "small"
    scale: Literal[1, 2, 4] = 2
    quality: float | None = None
    """The one quality of the `paper` schedule, the codec's own number. All others cover the whole sweep; so
    does it without one, with the networks of preset `small`, which are told the quality."""
    data: tuple[str, ...] = ()
    """Folders, files and globs; empty for the embedded dead-leaves pictures."""
    start: str | None = None
    """File or id of a model whose networks training begins with, instead of fresh ones."""
    out: Path
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=5)
    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = "auto"

    channels: Literal[1, 3] = 3
    batch: int = Field(default=8, ge=1)
    """Patches per step while the description network stands still."""
    patch: int = Field(default=96, ge=16, multiple_of=16)
    """Side of a patch of the original picture, in pixels."""
    crop: int = Field(default=256, ge=32, multiple_of=16)
    """Side of the crops that are coded as a whole."""
    joint_batch: int = Field(default=4, ge=1)
    """Crops per step while all three networks move."""
    joint_crop: int = Field(default=192, ge=32, multiple_of=16)
    pool: int = Field(default=512, ge=1)
    """Coded crops held ready."""
    learning_rate: float = Field(default=3e-3, gt=0)
    dssim: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Weight of the structural term: in the description objective of schedule `paper`, and in that of the
    adaptation."""
    rate: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Weight of the bits in the joint objective; 0: none."""
    plan: tuple[tuple[PhaseName, float], ...] | None = None
    """Phases of the schedule and their shares of the budget, in the place of its own plan."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        if self.schedule != "paper" and self.quality is not None:
            raise ValueError("the paper schedule alone has one quality; the others take none")
        if self.schedule == self.preset == "paper" and self.quality is None:
            raise ValueError("the paper preset needs one quality")
        if self.preset == "paper" and self.schedule != "paper":
            raise ValueError("the paper preset has one quality and no bits: use schedule paper")
        if self.scale not in scales_of(self.preset):
            raise ValueError(f"preset {self.preset} has no networks for scale {self.scale}")
        if self.preset == "paper" and self.channels != 1:
            raise ValueError("the paper preset codes luma: channels must be 1")
        if self.schedule == "adaptation" and self.start is None:
            raise ValueError("schedule adaptation needs the model whose adaptation it trains: start from one")
        if self.schedule == "virtual" and self.patch != self.crop:
            raise ValueError(f"a virtual codec learns from whole crops: patch must be {self.crop}")
        if self.rate != 1 and self.schedule != "joint":
            raise ValueError(f"schedule {self.schedule} has no bits in its objective, so no rate")
        if self.plan is not None and not math.isclose(sum(share for _, share in self.plan), 1, abs_tol=1e-6):
            raise ValueError("the shares of a plan must add up to 1")
        if self.plan and self.schedule == "joint" and self.start is None and self.plan[0][0] != "post":
            raise ValueError("a joint plan begins with post or with a model, whose curve has the slopes")
        if self.patch > self.crop:
            raise ValueError(f"patch {self.patch} is larger than crop {self.crop}")
        return self

    @classmethod
    def checked(cls, **values: Any) -> TrainConfig:
        """Build; raises `UsageError` with one line that names the setting and what is wrong.

        Left open, settings follow the paper where it is asked for: luma for its schedule; for its networks,
        which are heavy and have no skip connections, a smaller batch and learning rate. A virtual codec
        learns from whole coded crops, because bits cannot be cut: larger ones, and fewer at a time.
        """
        if values.get("schedule") == "paper":
            values = {"channels": 1, "dssim": 1.0, **values}
        if values.get("preset") == "paper":
            values = {"learning_rate": 3e-4, "batch": 8, **values}
        if values.get("schedule") == "virtual":
            side = 192 * values.get("scale", 1)
            values = {"scale": 1, "batch": 2, "patch": side, "crop": side, **values}
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"training: {where}: {reason}" if where else f"training: {reason}") from error

    def continues(self, other: TrainConfig) -> bool:
        """Whether a checkpoint of `other` may be continued: all but length and device agree."""
        ignored = {"minutes", "steps", "device", "out"}
        return self.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)
