"""Give damaged and hostile files to everything that reads files; only `VcframeError` may come back.

python benchmarks/fuzz.py --num 20000 --out benchmarks/results/fuzz.json
python benchmarks/fuzz.py --plugin my_codec.py --target my_codec

Each case is a good file, mutated from the seed and its number alone; most are sealed again with a right check
value, so that they reach the decoder. They run in a child process that a signal ends after 5 seconds of CPU
time (or 60 of any) without a result, and that may allocate 1 GiB; the parent notes what ended it and goes on
with the next case.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vcframe import Codec, VcframeError, __version__
from vcframe.coder import decompress
from vcframe.images import write_bytes
from vcframe.model import Model
from vcframe.registry import Registry
from vcframe.stream import CONTAINER_MAGIC, Payload, pack, unpack

GOLDEN_MODEL = Path(__file__).resolve().parents[1] / "tests/golden/adapted.safetensors"
LIMIT_S = 5.0
"""Of CPU time: what a busy machine takes for itself is not the file's fault."""
WAITING_LIMIT_S = 60.0
HEADROOM_BYTES = 2**30
MAX_PIXELS = 1_000_000
MODEL_TARGET, CONTAINER_TARGET = "model", "vcf"
ENDS = {
    signal.SIGPROF.name: f"no result within {LIMIT_S:g} s",
    signal.SIGALRM.name: f"no result within {WAITING_LIMIT_S:g} s, most of them waiting",
}
TELLING = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
UNEXPECTED = "failed unexpectedly"
"""What the registry's guard says of an error that is no `VcframeError`."""


@dataclass
class Tally:
    """What the files of one target came to."""

    target: str
    num_files: int = 0
    num_refused: int = 0
    """By a `VcframeError`."""
    num_decoded: int = 0
    slowest_s: float = 0.0
    """Of CPU time."""
    findings: list[dict[str, str | int]] = field(default_factory=list)
    """Other errors, hangs, crashes: the number of the case and what happened."""


@dataclass(frozen=True)
class Bench:
    """What the cases need; made once in a child."""

    registry: Registry
    model: Model
    model_bytes: bytes
    folder: Path

    def find_model(self, model_id: str, codec: Codec) -> Model:
        """The one at hand, whatever the file asks for."""
        return self.model

    @functools.cached_property
    def codecs(self) -> dict[str, Codec]:
        """All of them, with the pixel limit of the run."""
        return {name: self.registry.codec(name, max_pixels=MAX_PIXELS) for name in self.registry.codecs}

    @functools.cache  # noqa: B019  # lives as long as the process
    def streams(self, name: str) -> list[bytes]:
        """Small good files of a codec: smooth and noisy, grey and colour, odd and even sides."""
        codec, rng = self.codecs[name], np.random.default_rng(1)
        ramp = np.add.outer(np.arange(33), np.arange(40)).astype(np.uint8)
        pictures = [np.stack([ramp, 2 * ramp, 255 - ramp], 2), rng.integers(0, 256, (16, 16, 3), np.uint8)]
        pictures += [ramp[:17, :23], ramp[:1, :1]] if codec.traits.grey else [pictures[0][:1, :1]]
        return [codec.encode(picture, codec.quality_scale.native(0.4)) for picture in pictures]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 if anything was found."""
    parser = argparse.ArgumentParser(description="Fuzz everything that reads files.")
    parser.add_argument("--num", type=int, default=1000, metavar="N", help="files per target")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--target", nargs="+", metavar="NAME", help="codecs, vcf, model; default all")
    parser.add_argument("--plugin", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--child", nargs=2, metavar=("TARGET", "FIRST"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    plugins = [given.plugin] if given.plugin else []
    if given.child:
        return run_child(given.child[0], int(given.child[1]), given.num, given.seed, plugins)
    started = time.perf_counter()
    targets = given.target or [*Registry.load(plugins).codecs, CONTAINER_TARGET, MODEL_TARGET]
    tallies = [run_target(target, given.num, given.seed, plugins) for target in targets]
    for tally in tallies:
        print(
            f"{tally.target}: {tally.num_files} files, {tally.num_refused} refused, {tally.num_decoded} "
            f"decoded, slowest {tally.slowest_s:.2f} s, {len(tally.findings)} findings"
        )
        for finding in tally.findings[:10]:
            print(f"  case {finding['case']}: {finding['what']}")
    if given.out:
        content = {
            "schema": "vcframe-fuzz",
            "num": given.num,
            "seed": given.seed,
            "limit_s": LIMIT_S,
            "headroom_bytes": HEADROOM_BYTES,
            "max_pixels": MAX_PIXELS,
            "minutes": round((time.perf_counter() - started) / 60, 1),
            "vcframe": __version__,
            "codecs": {name: r.codec().version() for name, r in Registry.load(plugins).codecs.items()},
            "machine": platform.platform(),
            "targets": [asdict(tally) for tally in tallies],
        }
        write_bytes(given.out, json.dumps(content, indent=1).encode() + b"\n")
    return int(any(tally.findings for tally in tallies))


def run_target(target: str, num: int, seed: int, plugins: Sequence[Path]) -> Tally:
    """Run all cases of one target in children, each from where the one before it ended."""
    tally = Tally(target)
    while tally.num_files < num:
        command = [sys.executable, __file__, "--num", str(num), "--seed", str(seed)]
        command += ["--child", target, str(tally.num_files)]
        command += [str(word) for path in plugins for word in ("--plugin", path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            assert child.stdout is not None
            ready = child.stdout.readline()
            if not ready:
                raise SystemExit(f"fuzz: the child for {target} did not start: {' '.join(command)}")
            for line in child.stdout:
                _count(tally, json.loads(line))
        if tally.num_files < num:
            status = child.returncode
            ended = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            tally.findings.append({"case": tally.num_files, "what": ENDS.get(ended, f"ended by {ended}")})
            tally.num_files += 1
    return tally


def _count(tally: Tally, result: dict[str, str | float]) -> None:
    outcome = str(result["outcome"])
    tally.num_refused += outcome == "refused"
    tally.num_decoded += outcome == "decoded"
    if outcome not in ("refused", "decoded"):
        tally.findings.append({"case": tally.num_files, "what": outcome})
    tally.num_files += 1
    tally.slowest_s = max(tally.slowest_s, float(result["seconds"]))


def run_child(target: str, first: int, num: int, seed: int, plugins: Sequence[Path]) -> int:
    """Run cases `first` up to `num` in this process, one line of JSON for each."""
    with tempfile.TemporaryDirectory() as folder:
        model = Model.load(GOLDEN_MODEL)
        bench = Bench(Registry.load(plugins), model, GOLDEN_MODEL.read_bytes(), Path(folder))
        run_case(bench, target, good_file(bench, target))  # loads whatever is loaded late
        _limit_memory()
        print("ready", flush=True)
        for case in range(first, num):
            data = mutated(bench, target, random.Random(f"{seed} {target} {case}"))
            signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
            signal.setitimer(signal.ITIMER_REAL, WAITING_LIMIT_S)
            started = time.process_time()
            outcome = run_case(bench, target, data)
            seconds = time.process_time() - started
            print(json.dumps({"outcome": outcome, "seconds": round(seconds, 4)}), flush=True)
    return 0


def run_case(bench: Bench, target: str, data: bytes) -> str:
    """Give one file to every reader of its kind; `refused`, `decoded`, or what else came back."""
    outcomes = []
    for read in readers(bench, target, data):
        try:
            read()
            outcomes.append("decoded")
        except VcframeError as error:
            # The guard saves a plugin's user from the error; the plugin has it all the same.
            outcomes.append(str(error) if UNEXPECTED in str(error) else "refused")
        except BaseException as error:
            outcomes.append(f"{type(error).__name__}: {error}")
    found = [outcome for outcome in outcomes if outcome not in ("refused", "decoded")]
    return found[0] if found else outcomes[0]


def readers(bench: Bench, target: str, data: bytes) -> Iterator[Callable[[], object]]:
    """What a file of the target is given to; the first decides whether it counts as decoded."""
    if target == MODEL_TARGET:
        path = bench.folder / "model.safetensors"
        path.write_bytes(data)
        yield lambda: Model.load(path)
        return
    yield lambda: decompress(data, bench.registry, bench.find_model, MAX_PIXELS)
    yield lambda: unpack(data, bench.codecs.values())
    if target in bench.codecs:
        codec = bench.codecs[target]
        yield lambda: codec.decode(data)


def good_file(bench: Bench, target: str) -> bytes:
    """One that is not mutated."""
    if target == MODEL_TARGET:
        return bench.model_bytes
    return bench.streams(target if target in bench.codecs else next(iter(bench.codecs)))[0]


def mutated(bench: Bench, target: str, chance: random.Random) -> bytes:
    """One file: plain, with a payload, or damaged first and then sealed with a right check value."""
    if target == MODEL_TARGET:
        return mutate(bench.model_bytes, chance, reach=chance.choice([1400, len(bench.model_bytes)]))
    name = target if target in bench.codecs else chance.choice(list(bench.codecs))
    codec = bench.codecs[name]
    stream = chance.choice(bench.streams(name))
    scale = chance.choice([2] * 9 + [7])
    trims = chance.randrange(scale), chance.randrange(scale)
    levels = tuple(chance.randint(-7, 7) for _ in range(chance.choice([0, 0, 2, 64, 66])))
    payload = Payload(bench.model.id, scale, chance.randrange(256), trims, chance.random() < 0.3, levels)
    seal = (
        functools.partial(_contained, codec) if target == CONTAINER_TARGET else functools.partial(pack, codec)
    )
    way = chance.random()
    if way < 0.6:
        stream = mutate(stream, chance)
        try:
            return seal(stream, payload)
        except VcframeError:
            return stream
    return mutate(seal(stream, payload) if way < 0.8 else stream, chance)


def _contained(codec: Codec, stream: bytes, payload: Payload) -> bytes:
    """The generic container around the stream of any codec."""
    placeless = type("Placeless", (type(codec),), {"embed": Codec.embed})()
    data = pack(placeless, stream, payload)
    assert data.startswith(CONTAINER_MAGIC)
    return data


def mutate(data: bytes, chance: random.Random, reach: int | None = None) -> bytes:
    """One to six changes within the first `reach` bytes."""
    bad = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(min(reach or len(bad), len(bad)) or 1)
        size = min(chance.choice([1, 1, 2, 4, 16]), len(bad) - at)
        kind = chance.randrange(7)
        if kind == 0:
            bad[at : at + 1] = bytes([bad[at] ^ 1 << chance.randrange(8)]) if bad else b""
        elif kind == 1:
            bad[at : at + size] = chance.randbytes(size)
        elif kind == 2:
            bad[at : at + size] = bytes([chance.choice(TELLING)]) * size
        elif kind == 3:
            del bad[at : at + size]
        elif kind == 4:
            bad[at:at] = chance.randbytes(size)
        elif kind == 5:
            source = chance.randrange(len(bad) or 1)
            bad[at:at] = bad[source : source + chance.choice([1, 8, 64])]
        elif chance.random() < 0.3:
            del bad[at:]
    return bytes(bad)


def _limit_memory() -> None:
    """Let the address space grow by `HEADROOM_BYTES` over what is in use now, where the system says."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        used = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM_BYTES, used + HEADROOM_BYTES))


if __name__ == "__main__":
    raise SystemExit(main())
