"""The loop: build or resume, take steps, validate on real files, save."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import vcframe
from vcframe.codec import Codec, UsageError, VcframeError
from vcframe.images import write_bytes
from vcframe.learning.calibration import calibrate
from vcframe.learning.coded import CodingRoom
from vcframe.learning.config import TrainConfig
from vcframe.learning.engine import Engine, TrainingError, cosine
from vcframe.learning.phases import (
    AdaptationPhase,
    JointPhase,
    PaperDescriptionPhase,
    PaperVirtualPhase,
    Phase,
    PostPhase,
    Workshop,
    network_describe,
    plain_describe,
)
from vcframe.learning.sources import DeadLeavesSource, PictureSource, open_files
from vcframe.learning.validation import Curve, gain_percent, interpolate, measure, measured_slopes
from vcframe.model import Card, Model, find_model
from vcframe.networks import Networks, build_networks, without_idle
from vcframe.registry import Registry

CHECKPOINT = "checkpoint.pt"
MODEL = "model.safetensors"
REPORT = "report.json"
CHECKPOINT_EVERY_S = 60.0
SKIPPED = "skipped"
"""The phase of a `Progress` that reports a picture which could not be read."""

JOINT_PLAN = {
    1: (("post", 0.5), ("virtual", 0.03), ("joint", 0.07), ("finish", 0.05), ("adaptation", 0.35)),
    2: (("post", 0.35), ("virtual", 0.05), ("joint", 0.2), ("finish", 0.1), ("adaptation", 0.3)),
    4: (("post", 0.35), ("virtual", 0.05), ("joint", 0.2), ("finish", 0.1), ("adaptation", 0.3)),
}
"""Phases of the joint schedule and their shares of the budget, by scale.

At full size the codec is given what it was made for, and a description network adds little (measured on HEVC:
nothing); below that it decides what of the picture is kept. The adaptation moves the restoring network too.
"""

POST_PLAN = (("post", 0.6), ("adaptation", 0.4))
ADAPTATION_PLAN = (("adaptation", 1.0),)
VIRTUAL_PLAN = (("virtual", 1.0),)

PAPER_ROUNDS = 3
PAPER_ROUND = (("post", 0.14), ("virtual", 0.1), ("description", 0.05))
PAPER_PLAN = PAPER_ROUND * PAPER_ROUNDS + (("finish", 1 - PAPER_ROUNDS * sum(s for _, s in PAPER_ROUND)),)
"""The paper's alternation, and the post-processing network once more for the last descriptions."""


class Interrupted(VcframeError):
    """The user stopped the run; a checkpoint is on disk."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for a progress bar. `fraction` is of the whole run."""

    phase: str
    step: int
    num_steps: int | None
    elapsed_s: float
    remaining_s: float | None
    fraction: float
    text: str


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves."""

    model_path: Path
    report: dict[str, Any]


@dataclass
class State:
    """What a checkpoint restores, besides weights and optimisers."""

    phase: int = 0
    step: int = 0
    """Steps taken in this phase."""
    total_steps: int = 0
    elapsed_s: float = 0.0
    waited_s: float = 0.0
    """Seconds of `elapsed_s` that the networks waited for the codec."""
    slopes: list[float] = field(default_factory=list)
    slope_units: list[float] = field(default_factory=list)
    best_score: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def fit(
    config: TrainConfig,
    registry: Registry,
    on_progress: Callable[[Progress], None],
    run_type: type[Run] | None = None,
) -> TrainResult:
    """Train one system and leave `model.safetensors`, `report.json` and `config.json` in `config.out`.

    Another `run_type` may leave something else. Continues where a checkpoint of the same configuration
    stands in the folder. Raises `Interrupted` after Ctrl-C, with a checkpoint saved; `TrainingError` where
    the loss is no longer finite; `UsageError` for settings that do not fit the codec or the folder.
    """
    codec = registry.codec_from_config(config.codec)
    if config.quality is not None:
        codec.quality_scale.check(config.quality)
    engine = Engine(config.device)
    saved = _open_folder(config)
    torch.manual_seed(config.seed)
    networks = _networks(config, codec, registry)
    start = find_model(config.start, codec) if config.start is not None else None
    if start is not None:
        _take_over(start, networks, config, codec)
    source: PictureSource
    source = open_files(config.data) if config.data else DeadLeavesSource(config.seed)
    room = CodingRoom(codec)
    try:
        for line in source.skipped:
            on_progress(Progress(SKIPPED, 0, config.steps, 0.0, None, 0.0, line))
        workshop = Workshop(config, engine, room, source, networks)
        if saved is None:
            calibrate(workshop)
        start_id = start.id if start else None
        run = (run_type or Run)(config, workshop, on_progress, saved, start_id)
        with _stop_between_steps():
            return run.to_the_end()
    finally:
        room.close()
        source.close()


class Run:
    """One run of `fit`: the state, the clock and the files."""

    def __init__(
        self,
        config: TrainConfig,
        workshop: Workshop,
        on_progress: Callable[[Progress], None],
        saved: dict[str, Any] | None,
        start_id: str | None,
    ) -> None:
        self.config, self.shop, self.on_progress = config, workshop, on_progress
        self.start_id = start_id
        self.plan = _plan(config)
        for network in (workshop.networks.description, workshop.networks.post, workshop.networks.virtual):
            workshop.engine.place(network)
        self.state = State()
        self.best: dict[str, Any] | None = None
        self.optimiser_states: dict[str, Any] = {}
        if saved is not None:
            self._resume(saved)
        self.started = time.perf_counter() - self.state.elapsed_s
        self.waited_before = self.state.waited_s
        self.anchor: Curve | None = None

    def to_the_end(self) -> TrainResult:
        """Take every step that is left, then write the model."""
        try:
            if self.start_id is not None and self.best is None:
                self._validate("start")
            while self.state.phase < len(self.plan):
                self._run_phase()
                self._save_checkpoint({})
                self._validate(self.plan[self.state.phase][0])
                self.state.phase, self.state.step, self.optimiser_states = self.state.phase + 1, 0, {}
                self._save_checkpoint({})
        except KeyboardInterrupt:
            if (self.config.out / CHECKPOINT).exists():
                done = f"a checkpoint is in {self.config.out}: the same command continues from it"
            else:
                done = "no step had been taken yet"
            raise Interrupted(f"stopped; {done}") from None
        return self._write_result()

    def _run_phase(self) -> None:
        phase = self._make_phase()
        for name, saved in self.optimiser_states.items():
            phase.optimisers[name].load_state_dict(saved)
        last_save = time.perf_counter()
        name = self.plan[self.state.phase][0]
        try:
            while (fraction := self._phase_fraction()) < 1:
                try:
                    result = phase.step(self.state.step, cosine(fraction))
                except TrainingError as error:
                    raise TrainingError(f"{error} at step {self.state.step + 1} of phase {name}") from error
                self.state.step += 1
                self.state.total_steps += 1
                self._clock()
                self.on_progress(self._progress(name, result.text))
                if _stop_wanted.is_set():
                    raise KeyboardInterrupt
                if time.perf_counter() - last_save > CHECKPOINT_EVERY_S:
                    self._save_checkpoint(phase.optimisers)
                    last_save = time.perf_counter()
        except KeyboardInterrupt:
            self._save_checkpoint(phase.optimisers)
            raise

    def _make_phase(self) -> Phase:
        """The current phase; deterministic in the weights at its start, so that it can be made again."""
        index, name = self.state.phase, self.plan[self.state.phase][0]
        moved = any(name in ("joint", "description") for name, _ in self.plan[:index])
        moved |= self.config.start is not None and self.config.schedule != "post"
        shop = dataclasses.replace(self.shop, first=self.state.total_steps - self.state.step)
        describe = network_describe(shop) if moved else plain_describe(self.config.scale)
        if name == "adaptation":
            return AdaptationPhase(shop, describe, index)
        if name in ("post", "finish"):
            # From trained weights: half the rate.
            factor = 0.5 if name == "finish" or self.config.start is not None else 1.0
            return PostPhase(shop, describe, index, factor * self.config.learning_rate)
        if self.config.schedule != "paper":

            def slope(unit: float) -> float:
                return interpolate(self.state.slope_units, self.state.slopes, unit)

            return JointPhase(shop, index, slope, move_description=name == "joint")
        if name == "virtual":
            return PaperVirtualPhase(shop, describe, index)
        return PaperDescriptionPhase(shop, index)

    def _phase_bounds(self) -> tuple[float, float]:
        shares = [share for _, share in self.plan]
        return sum(shares[: self.state.phase]), sum(shares[: self.state.phase + 1])

    def _phase_fraction(self) -> float:
        low, high = self._phase_bounds()
        if self.config.steps is not None:
            first, last = round(low * self.config.steps), round(high * self.config.steps)
            return self.state.step / (last - first) if last > first else 1.0
        assert self.config.minutes is not None
        done = self.state.elapsed_s / (60 * self.config.minutes)
        return (done - low) / (high - low)

    def _clock(self) -> None:
        self.state.elapsed_s = time.perf_counter() - self.started
        self.state.waited_s = self.waited_before + self.shop.room.waited_s

    def _progress(self, phase: str, text: str) -> Progress:
        state, config = self.state, self.config
        if config.steps is not None:
            fraction = state.total_steps / config.steps
            remaining = state.elapsed_s / fraction * (1 - fraction) if fraction else None
        else:
            assert config.minutes is not None
            fraction = min(state.elapsed_s / (60 * config.minutes), 1.0)
            remaining = 60 * config.minutes - state.elapsed_s
        remaining, fraction = remaining and max(remaining, 0.0), min(fraction, 1.0)
        return Progress(phase, state.total_steps, config.steps, state.elapsed_s, remaining, fraction, text)

    def _validate(self, name: str) -> None:
        """Judge the networks on real files; keep them if they are the best so far."""
        if name == "virtual":
            return
        if self.anchor is None:
            self.anchor = measure(self.shop, with_networks=False)
        curve = measure(self.shop, with_networks=True)
        score = gain_percent(self.anchor, curve)
        if name in ("start", "post"):
            self.state.slope_units, self.state.slopes = list(curve.units), measured_slopes(curve)
        self._clock()
        self.state.history.append(
            {
                "phase": name,
                "steps": self.state.total_steps,
                "minutes": round(self.state.elapsed_s / 60, 2),
                "bd_rate_percent_against_plain_resampling": score,
                "units": list(curve.units),
                "bpp": curve.mean_bpp,
                "psnr_db": curve.mean_psnr_db,
                "psnr_db_plain_resampling": self.anchor.mean_psnr_db,
                "bpp_plain_resampling": self.anchor.mean_bpp,
            }
        )
        # One quality gives no curve to compare: the paper's schedule keeps its last networks.
        better = score is not None and (self.state.best_score is None or score < self.state.best_score)
        if better or self.best is None or self.config.quality is not None:
            self.state.best_score = score
            self.best = self._weights(("description", "post"))
        else:
            self._back_to_the_best()
        text = "" if score is None else f"{score:+.1f} % against plain resampling"
        self.on_progress(self._progress(f"{name} validated", text))

    def _back_to_the_best(self) -> None:
        """Let the next phase begin at the best networks so far, not at the last."""
        assert self.best is not None
        for name, weights in self.best.items():
            getattr(self.shop.networks, name).load_state_dict(weights)

    def _weights(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: copy.deepcopy(getattr(self.shop.networks, name).state_dict()) for name in names}

    def _save_checkpoint(self, optimisers: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(
            {
                "config": self.config.model_dump_json(),
                "state": dataclasses.asdict(self.state),
                "networks": self._weights(("description", "post", "virtual")),
                "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
                "best": self.best,
            },
            buffer,
        )
        write_bytes(self.config.out / CHECKPOINT, buffer.getvalue())

    def _resume(self, saved: dict[str, Any]) -> None:
        self.state = State(**saved["state"])
        for name, weights in saved["networks"].items():
            getattr(self.shop.networks, name).load_state_dict(weights)
        self.optimiser_states, self.best = saved["optimisers"], saved["best"]

    def _write_result(self) -> TrainResult:
        config, state = self.config, self.state
        self._back_to_the_best()
        report: dict[str, Any] = {
            "schedule": config.schedule,
            "data": self.shop.source.summary,
            "steps": state.total_steps,
            "minutes": round(state.elapsed_s / 60, 2),
            "waited_for_codec_percent": round(100 * state.waited_s / max(state.elapsed_s, 1e-9), 1),
            "seed": config.seed,
            "validation_bd_rate_percent": state.best_score,
            "slopes": state.slopes,
        }
        if config.quality is not None:
            report["quality"] = config.quality
        if self.start_id is not None:
            report["start"] = self.start_id
        card = Card(
            codec=config.codec,
            codec_version=self.shop.room.codec.version(),
            preset=config.preset,
            block=self.shop.room.codec.traits.block,
            channels=config.channels,
            training={config.scale: report},
            vcframe_version=vcframe.__version__,
        )
        model = Model(card, {config.scale: without_idle(self.shop.networks)}, str(self.shop.engine.device))
        model.save(config.out / MODEL)
        full = {**report, "model": model.id, "torch": torch.__version__, "history": state.history}
        write_bytes(config.out / REPORT, json.dumps(full, indent=1).encode())
        return TrainResult(config.out / MODEL, full)


def _networks(config: TrainConfig, codec: Codec, registry: Registry) -> Networks:
    networks = build_networks(config.preset, config.scale, codec.traits.block, config.channels)
    if config.schedule == "joint" and (offered := registry.virtual_codec(codec)) is not None:
        return dataclasses.replace(networks, virtual=offered)
    if config.schedule == "paper":
        # The paper's virtual codec imitates codec and post-processing together: a twin of the latter, in the
        # small preset too, whose own virtual codec imitates the codec alone.
        twin = build_networks(config.preset, config.scale, codec.traits.block, config.channels).post
        return dataclasses.replace(networks, virtual=twin)
    return networks


def _take_over(model: Model, networks: Networks, config: TrainConfig, codec: Codec) -> None:
    """Begin with a model's weights: those of the networks that the schedule moves."""
    ours: dict[str, Any] = {"preset": config.preset, "channels": config.channels}
    roles = ["post"]
    if config.schedule != "post":
        ours["block"] = codec.traits.block
        roles.append("description")
    for name, value in ours.items():
        if (theirs := getattr(model.card, name)) != value:
            raise UsageError(f"cannot start from model {model.id}: its {name} is {theirs}, not {value}")
    if config.scale not in model.card.scales:
        raise UsageError(f"cannot start from model {model.id}: it has no networks for scale {config.scale}")
    for role in roles:
        weights = getattr(model.networks[config.scale], role).state_dict()
        if config.schedule != "adaptation":
            # Trained anew, as the last phase: it fits the very networks before it.
            weights = {name: value for name, value in weights.items() if not name.startswith("adaptation.")}
        if weights or role == "post":
            getattr(networks, role).load_state_dict(weights)


def _open_folder(config: TrainConfig) -> dict[str, Any] | None:
    """Make the run's folder and write the settings into it; returns the checkpoint to continue from."""
    saved = _read_checkpoint(config)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {config.out}: {error.strerror}") from error
    write_bytes(config.out / "config.json", config.model_dump_json(indent=1).encode())
    return saved


def _read_checkpoint(config: TrainConfig) -> dict[str, Any] | None:
    path = config.out / CHECKPOINT
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        earlier = TrainConfig.model_validate_json(saved["config"])
        finished = saved["state"]["phase"] == len(_plan(earlier))
    except Exception as error:  # torch, pickle and pydantic raise a dozen kinds for a damaged file
        raise UsageError(f"{path} is damaged: give another --out, or remove it") from error
    if not config.continues(earlier):
        raise UsageError(f"{config.out} holds a run with other settings: give another --out, or remove it")
    if finished and (config.minutes, config.steps) != (earlier.minutes, earlier.steps):
        raise UsageError(f"{config.out} holds a finished run: to train longer give another --out")
    return saved


def _plan(config: TrainConfig) -> tuple[tuple[str, float], ...]:
    plans: dict[str, tuple[tuple[str, float], ...]] = {
        "joint": JOINT_PLAN[config.scale],
        "post": POST_PLAN,
        "paper": PAPER_PLAN,
        "virtual": VIRTUAL_PLAN,
        "adaptation": ADAPTATION_PLAN,
    }
    own = plans[config.schedule]
    if config.plan is None:
        return own
    if strangers := {name for name, _ in config.plan} - {name for name, _ in own}:
        raise UsageError(f"training: plan: schedule {config.schedule} has no phase {min(strangers)}")
    return config.plan


_stop_wanted = threading.Event()


@contextlib.contextmanager
def _stop_between_steps() -> Iterator[None]:
    """Ctrl-C lets the step in hand end, so that the checkpoint is whole; a second one stops at once."""

    def ask(number: int, frame: object) -> None:
        if _stop_wanted.is_set():
            raise KeyboardInterrupt
        _stop_wanted.set()

    _stop_wanted.clear()
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; whoever trains in another one stops by the callback
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
