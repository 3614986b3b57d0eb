"""Train the weights of the codec `neural`.

    nice python benchmarks/neural_codec.py --data my_pictures --minutes 10 --out plugins/neural.safetensors

Without `--data` on generated pictures (dead leaves). One thread. The cost of a picture is
`log(squared error / (a * step**2) + bits)`, where `a` is the exchange of a fine uniform quantiser,
`2 ln 2 / 12`: one set of weights serves every step. Afterwards the tables that code the symbols are chosen by
counting, for each quality, channel and context.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from vcframe_plugins import neural
from vcframe_plugins._transform import NUM_LATENTS, analyse, fresh_weights, quantise, synthesise

import vcframe
from vcframe.learning.sources import DeadLeavesSource, FileSource, open_files

if TYPE_CHECKING:
    from torch import Tensor

BATCH, SIDE = 8, 128
EXCHANGE = 2 * math.log(2) / 12
LEARNING_RATES = {"linear": 1e-4, "scale": 1e-2, "else": 1e-3}
NUM_TABLES, SCALES = 64, (0.04, 120.0)
TABLE_BITS = 24
CALIBRATION_SIDE = 192


def main() -> None:
    """Train, choose the tables, write the file."""
    import safetensors.torch
    import torch

    arguments = _arguments()
    torch.set_num_threads(1)
    started_s = time.process_time()
    source = open_files(arguments.data) if arguments.data else DeadLeavesSource(arguments.seed)
    try:
        weights, num_steps = _train(source, arguments.minutes, arguments.seed)
        networks = {name: value.detach().half() for name, value in weights.items()}
        tables = _tables()
        rounded = {name: value.float() for name, value in networks.items()}
        choice = _choice(rounded, tables, source, arguments.calibration)
    finally:
        source.close()
    card = {
        "codec": "neural",
        "vcframe": vcframe.__version__,
        "torch": torch.__version__,
        "training": f"{num_steps} steps of {BATCH} crops of {SIDE} pixels, seed {arguments.seed}, "
        f"{arguments.minutes:g} min, {time.process_time() - started_s:.0f} s of processor time in all",
        "pictures": source.summary,
    }
    tensors = {**networks, "tables": torch.from_numpy(tables), "choice": torch.from_numpy(choice)}
    content = safetensors.torch.save(tensors, {"card": json.dumps(card)})
    arguments.out.write_bytes(content)
    digest = neural.read_weights(content).digest.hex()
    print(f"{arguments.out}: {len(content)} bytes, {num_steps} steps, weights {digest}")


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", help="pictures: folders, files, globs")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training by the clock")
    parser.add_argument(
        "--calibration", type=int, default=32, metavar="N", help="crops on which symbols are counted"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _train(source: FileSource | DeadLeavesSource, minutes: float, seed: int) -> tuple[dict[str, Tensor], int]:
    import torch

    weights = fresh_weights(torch.Generator().manual_seed(seed))
    # Of the Laplace distributions that stand in for the tables: base, and share of log2(step).
    prior = {
        "scale.base": torch.linspace(0, 1.5, neural.NUM_CONTEXTS).repeat(NUM_LATENTS, 1),
        "scale.slope": torch.full((NUM_LATENTS, 1), -0.3),
    }
    parameters = {**weights, **prior}
    groups = []
    for name, value in parameters.items():
        kind = next((kind for kind in LEARNING_RATES if kind in name), "else")
        groups.append(
            {"params": [value.requires_grad_()], "lr": LEARNING_RATES[kind], "full": LEARNING_RATES[kind]}
        )
    optimizer = torch.optim.Adam(groups)
    rng = np.random.default_rng(seed)
    started_s, step, shown = time.monotonic(), 0, 0.0
    while (spent := (time.monotonic() - started_s) / (60 * minutes)) < 1:
        crops = np.stack([source.crop(step * BATCH + k, SIDE, rng) for k in range(BATCH)])
        x_BCHW = torch.from_numpy(crops).permute(0, 3, 1, 2).float().contiguous()
        levels = torch.from_numpy(rng.uniform(0, neural.BEST, BATCH)).float()
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * (0.5 + 0.5 * math.cos(math.pi * spent) + 0.01)
        cost = _cost(parameters, x_BCHW, neural.COARSEST_STEP * 2 ** (-levels / neural.STEPS_PER_HALVING))
        if not torch.isfinite(cost):
            raise SystemExit(f"step {step}: the cost is {cost.item()}")
        optimizer.zero_grad()
        cost.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        optimizer.step()
        step += 1
        shown = cost.item() if step == 1 else 0.98 * shown + 0.02 * cost.item()
        if step % 50 == 0:
            print(f"{100 * spent:.0f} %, step {step}, cost {shown:.4f}", flush=True)
    return weights, step


def _cost(parameters: dict[str, Tensor], x_BCHW: Tensor, step_B: Tensor) -> Tensor:
    """Mean logarithm of the pictures' cost."""
    import torch

    latents = analyse(parameters, x_BCHW, step_B)
    # Whole numbers forwards, the identity backwards.
    whole = latents + (quantise(latents) - latents).detach()
    difference = torch.zeros_like(whole)
    difference[:, : neural.NUM_DIFFERENCES, :, 1:] = whole[:, : neural.NUM_DIFFERENCES, :, :-1]
    difference[:, : neural.NUM_DIFFERENCES, 1:, 0] = whole[:, : neural.NUM_DIFFERENCES, :-1, 0]
    symbols = whole - difference
    context = torch.from_numpy(_all_contexts(symbols.detach().numpy().round().astype(np.int32)))
    base = parameters["scale.base"][torch.arange(NUM_LATENTS)[:, None, None], context]
    slope = parameters["scale.slope"][:, :, None] * (step_B.log2() - 4)[:, None, None, None]
    scale = (base + slope).clamp(-4, 6).exp()
    size = symbols.abs()
    zero = torch.log(-torch.expm1(-0.5 / scale))
    other = -(size - 0.5) / scale + torch.log(-0.5 * torch.expm1(-1 / scale))
    bits = -torch.where(size < 0.5, zero, other).sum((1, 2, 3)) / math.log(2)
    squared_error = (synthesise(parameters, whole, step_B) - x_BCHW).square().sum((1, 2, 3))
    cost: Tensor = (squared_error / (EXCHANGE * step_B.square()) + bits).log().mean()
    return cost


def _all_contexts(symbols: neural.Symbols) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`neural.contexts` of every channel of `(pictures, channels, rows, columns)`."""
    channels_first = neural.spread(symbols).swapaxes(0, 1)
    found = [neural.contexts(channels_first[:channel]) for channel in range(NUM_LATENTS)]
    return np.stack(found, axis=1).astype(np.int64)


def _tables() -> np.ndarray[Any, np.dtype[np.int32]]:
    """Frequencies of Laplace distributions of growing scale, each symbol at least 1 of 2**24."""
    scale = np.geomspace(*SCALES, NUM_TABLES)[:, None]
    size = np.abs(np.arange(-neural.LARGEST_SYMBOL, neural.LARGEST_SYMBOL + 1))
    mass = np.where(
        size == 0, -np.expm1(-0.5 / scale), -0.5 * np.exp(-(size - 0.5) / scale) * np.expm1(-1 / scale)
    )
    mass = np.concatenate([mass, 1 - mass.sum(1, keepdims=True)], axis=1).clip(0)
    total = 1 << TABLE_BITS
    tables = 1 + np.floor(mass / mass.sum(1, keepdims=True) * (total - mass.shape[1])).astype(np.int64)
    tables[:, neural.LARGEST_SYMBOL] += total - tables.sum(1)
    return np.asarray(tables, np.int32)


def _choice(
    networks: dict[str, Tensor],
    tables: np.ndarray[Any, np.dtype[np.int32]],
    source: FileSource | DeadLeavesSource,
    num_crops: int,
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """For each quality, channel and context the table that codes training pictures in the fewest bits."""
    import torch

    rng = np.random.default_rng(1)
    crops = np.stack([source.crop(k, CALIBRATION_SIDE, rng) for k in range(num_crops)])
    x_BCHW = torch.from_numpy(crops).permute(0, 3, 1, 2).float().contiguous()
    cost = -np.log2(tables / (1 << TABLE_BITS)).T
    choice = np.zeros((neural.BEST + 1, NUM_LATENTS, neural.NUM_CONTEXTS), np.uint8)
    for level in range(neural.BEST + 1):
        with torch.inference_mode():
            parts = torch.split(x_BCHW, 8)
            latents = torch.cat(
                [
                    quantise(analyse(networks, part, torch.full((len(part),), neural.step_of(level))))
                    for part in parts
                ]
            )
        symbols = neural.to_symbols(latents.numpy().astype(np.int32))
        context = _all_contexts(symbols)
        clipped = np.where(
            np.abs(symbols) <= neural.LARGEST_SYMBOL, symbols + neural.LARGEST_SYMBOL, neural.ESCAPE
        )
        for channel in range(NUM_LATENTS):
            cells = context[:, channel] * (neural.ESCAPE + 1) + clipped[:, channel]
            counts = np.bincount(cells.ravel(), minlength=neural.NUM_CONTEXTS * (neural.ESCAPE + 1))
            counts = counts.reshape(neural.NUM_CONTEXTS, -1)
            # A context that was hardly seen is coded as the channel is in all.
            smoothed = counts + counts.sum(0) / max(counts.sum(), 1)
            choice[level, channel] = (smoothed @ cost).argmin(1)
    return choice


if __name__ == "__main__":
    main()
