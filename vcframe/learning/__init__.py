"""Training: objective, data, schedules (`joint`, `paper`), the loop, checkpoints."""

from vcframe.learning.config import TrainConfig
from vcframe.learning.engine import TrainingError
from vcframe.learning.loop import Interrupted, Progress, TrainResult, fit
from vcframe.learning.scales import fit_scales
from vcframe.learning.virtual import fit_virtual

__all__ = [
    "Interrupted",
    "Progress",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "fit",
    "fit_scales",
    "fit_virtual",
]
