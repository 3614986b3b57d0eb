"""Training: objective, data, schedules (`joint`, `paper`), the loop, checkpoints."""

from vcframe.learning.config import TrainConfig
from vcframe.learning.engine import TrainingError
from vcframe.learning.loop import Interrupted, Progress, TrainResult, fit
from vcframe.learning.scales import fit_scales

__all__ = ["Interrupted", "Progress", "TrainConfig", "TrainResult", "TrainingError", "fit", "fit_scales"]
