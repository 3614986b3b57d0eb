"""Many files, folders and standard streams on the command line, and what `info` says about a file."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
from command_line import fresh_model, ok, refused, run
from typer.testing import CliRunner

from vcframe import coder
from vcframe.cli import app
from vcframe.metrics import psnr
from vcframe.registry import Registry

pytestmark = pytest.mark.usefixtures("no_shipped_models")

PLAIN = ("--codec", "jpeg", "-q", 30, "--plain")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures in a tree, and the current folder above it."""
    monkeypatch.chdir(tmp_path)
    photo = skimage.data.chelsea()
    for index, name in enumerate(("a.png", "deep/b.png", "deep/er/c.tif")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        top = 60 + 50 * index
        PIL.Image.fromarray(np.ascontiguousarray(photo[top : top + 40, 100:156])).save(path)
    return Path("in")


def pixels(path: Path | io.BytesIO) -> np.ndarray[Any, Any]:
    with PIL.Image.open(path) as opened:
        return np.asarray(opened)


def files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


class TestBatch:
    def test_a_folder_keeps_its_tree(self, tree: Path) -> None:
        result = ok("compress", tree, "out", *PLAIN)
        assert files("out") == ["a.jpg", "deep/b.jpg", "deep/er/c.jpg"]
        codec = Registry.load().codec("jpeg")
        picture = pixels(tree / "deep/b.png")
        data = codec.encode(picture, 30)
        assert Path("out/deep/b.jpg").read_bytes() == data
        row = next(line for line in result.stdout.splitlines() if "deep/b.jpg" in line)
        num_in = (tree / "deep/b.png").stat().st_size
        distortion = psnr(picture, codec.decode(data))
        for cell in (f"{num_in:,}", f"{len(data):,}", f"{100 * (1 - len(data) / num_in):.1f} %"):
            assert f" {cell} " in row
        assert f"{distortion:.2f} dB" in row
        assert "3 files" in result.stdout

        ok("decompress", "out", "back", "--format", "webp")
        assert files("back") == ["a.webp", "deep/b.webp", "deep/er/c.webp"]
        assert np.array_equal(pixels(Path("back/deep/b.webp")), codec.decode(data))

    @pytest.mark.parametrize(
        ("sources", "made"),
        [
            (["in/**/*.png"], ["a.jpg", "deep/b.jpg"]),
            (["in/deep/*"], ["b.jpg", "er/c.jpg"]),
            (["in/a.png", "in/deep"], ["a.jpg", "b.jpg", "er/c.jpg"]),
            (["in/a.png", "in/a.png", "in/deep/er/c.tif"], ["a.jpg", "c.jpg"]),
        ],
    )
    @pytest.mark.usefixtures("tree")
    def test_files_and_globs(self, sources: list[str], made: list[str]) -> None:
        ok("compress", *sources, "out", *PLAIN)
        assert files("out") == made

    def test_one_file_goes_into_a_folder_that_exists(self, tree: Path) -> None:
        Path("out").mkdir()
        ok("compress", tree / "a.png", "out", *PLAIN)
        assert files("out") == ["a.jpg"]

    def test_the_folder_itself_may_hold_the_output(self, tree: Path) -> None:
        for _ in range(2):
            ok("compress", tree, tree / "out", *PLAIN)
        assert files("in/out") == ["a.jpg", "deep/b.jpg", "deep/er/c.jpg"]

    @pytest.mark.parametrize("jobs", [1, 3])
    def test_no_byte_depends_on_the_jobs(self, jobs: int, tree: Path, saved: Path) -> None:
        asked = ("--codec", "jpeg", "--target-bpp", 2, "--model", saved / "jpeg.safetensors")
        ok("compress", tree, "out", *asked, "--jobs", jobs)
        ok("compress", tree / "deep/b.png", "alone.jpg", *asked)
        assert Path("out/deep/b.jpg").read_bytes() == Path("alone.jpg").read_bytes()

    def test_a_failed_file_stops_nothing(self, tree: Path) -> None:
        (tree / "deep" / "bad.png").write_text("no picture")
        result = run("compress", tree, "out", *PLAIN)
        assert result.exit_code == 1
        assert files("out") == ["a.jpg", "deep/b.jpg", "deep/er/c.jpg"]
        assert result.stderr.splitlines() == [
            "vcframe: failed: in/deep/bad.png: not a picture in a format that Pillow reads",
            "vcframe: error: 1 of 4 files failed",
        ]

    def test_a_surprise_is_a_failure_of_that_file_alone(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = coder.compress

        def broken(image: Any, *arguments: Any, **named: Any) -> Any:
            if np.array_equal(image, pixels(tree / "a.png")):
                raise MemoryError("too big")
            return real(image, *arguments, **named)

        monkeypatch.setattr("vcframe.coder.compress", broken)
        result = run("compress", tree, "out", *PLAIN, "--json")
        assert result.exit_code == 1
        report = json.loads(result.stdout)
        assert report["failed"] == [{"source": "in/a.png", "error": "in/a.png: MemoryError: too big"}]
        assert [row["source"] for row in report["files"]] == ["in/deep/b.png", "in/deep/er/c.tif"]

    def test_what_is_done_is_skipped(self, tree: Path) -> None:
        Path("out/deep").mkdir(parents=True)
        Path("out/deep/b.jpg").write_text("done")
        result = ok("compress", tree, "out", *PLAIN, "--json")
        report = json.loads(result.stdout)
        assert report["skipped"] == ["out/deep/b.jpg"]
        assert [row["file"] for row in report["files"]] == ["out/a.jpg", "out/deep/er/c.jpg"]
        assert report["files"][0]["num_bytes"] == Path("out/a.jpg").stat().st_size
        assert report["files"][0]["source_bytes"] == (tree / "a.png").stat().st_size
        assert "1 skipped" in result.stderr
        assert Path("out/deep/b.jpg").read_text() == "done"
        ok("compress", tree, "out", *PLAIN, "--force")
        assert pixels(Path("out/deep/b.jpg")).shape == (40, 56, 3)

    def test_ctrl_c_keeps_what_was_done(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real, begun = coder.compress, []

        def interrupt(*arguments: Any, **named: Any) -> Any:
            begun.append(threading.current_thread())
            if len(begun) == 2:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        monkeypatch.setattr("vcframe.coder.compress", interrupt)
        result = run("compress", tree, "out", *PLAIN, "--jobs", 1)
        assert result.exit_code == 130
        last = result.stderr.splitlines()[-1]
        assert last.startswith("vcframe: error: interrupted: ")
        assert last.endswith(" of 3 files done; the same command does the rest")
        assert "a.jpg" in files("out")
        assert "deep/b.jpg" not in files("out")
        assert "out/a.jpg" in result.stdout
        monkeypatch.setattr("vcframe.coder.compress", real)
        ok("compress", tree, "out", *PLAIN)
        assert files("out") == ["a.jpg", "deep/b.jpg", "deep/er/c.jpg"]

    def test_models_are_loaded_once(self, tree: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import vcframe.model

        real, loaded = vcframe.model.find_model, []

        def spy(*arguments: Any) -> Any:
            loaded.append(arguments)
            return real(*arguments)

        monkeypatch.setattr("vcframe.model.find_model", spy)
        model = saved / "jpeg.safetensors"
        ok("compress", tree, "out", "--codec", "jpeg", "-q", 30, "--scale", 2, "--model", model)
        ok("decompress", "out", "back", "--model", model, "--jobs", 3)
        assert len(loaded) == 2
        assert pixels(Path("back/a.png")).shape == (40, 56, 3)

    def test_two_that_would_become_one_are_refused(self, tree: Path) -> None:
        (tree / "a.tif").write_bytes((tree / "a.png").read_bytes())
        message = refused("compress", tree, "out", *PLAIN)
        assert "in/a.png and in/a.tif would both become out/a.*" in message
        assert not Path("out").exists()

    def test_nothing_overwrites_itself(self, tree: Path) -> None:
        ok("compress", tree, "out", *PLAIN)
        before = Path("out/a.jpg").read_bytes()
        assert "would be overwritten by its own output" in refused(
            "compress", "out/*.jpg", "out", *PLAIN, "--force"
        )
        assert Path("out/a.jpg").read_bytes() == before

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("in none.png out", "no pictures in 'none.png'"),
            ("in in/a.png", "in/a.png is a file: name a folder"),
            ("in - out", "standard input (-) is one picture"),
        ],
    )
    @pytest.mark.usefixtures("tree")
    def test_what_a_batch_refuses(self, arguments: str, message: str) -> None:
        assert message in refused("compress", *arguments.split(), *PLAIN)
        assert not Path("out").exists()


class TestStreams:
    def test_standard_input_and_output(self, tree: Path) -> None:
        codec = Registry.load().codec("jpeg")
        data = codec.encode(pixels(tree / "a.png"), 30)
        arguments = [str(argument) for argument in ("compress", "-", "-", *PLAIN)]
        result = CliRunner().invoke(app, arguments, input=(tree / "a.png").read_bytes())
        assert (result.exit_code, result.stdout_bytes) == (0, data)
        assert f"-: {len(data):,} bytes" in result.stderr
        result = CliRunner().invoke(app, ["decompress", "-", "-", "--format", "tiff"], input=data)
        assert np.array_equal(pixels(io.BytesIO(result.stdout_bytes)), codec.decode(data))
        result = CliRunner().invoke(app, ["info", "-", "--json"], input=data)
        assert json.loads(result.stdout)["num_bytes"] == len(data)

    def test_what_standard_output_refuses(self, tree: Path) -> None:
        assert "--json prints on standard output" in refused(
            "compress", tree / "a.png", "-", *PLAIN, "--json"
        )
        message = refused("decompress", tree / "a.png", "-", "--format", "xyz")
        assert "--format xyz: give one of png, webp, tif, tiff, jpg, jpeg" in message


class TestTargets:
    def test_a_psnr(self, tree: Path) -> None:
        ok("compress", tree / "a.png", "a.jpg", "--codec", "jpeg", "--plain", "--target-psnr", 32)
        assert psnr(pixels(tree / "a.png"), pixels(Path("a.jpg"))) >= 31.9  # Pillow's IDCT is another one

    def test_bytes_and_effort(self, tree: Path) -> None:
        asked = ("--codec", "jpeg", "--plain", "--target-bytes", 900)
        ok("compress", tree / "a.png", "a.jpg", *asked)
        assert 800 < Path("a.jpg").stat().st_size <= 900
        assert "effort 9 is not one of 1, 2, 3" in refused(
            "compress", tree / "a.png", "b.jpg", *asked, "--effort", 9
        )

    def test_any_codec(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VCFRAME_PLUGINS", "jpeg,webp")
        report = json.loads(
            ok("compress", tree, "out", "--codec", "auto", "--target-bytes", 700, "--json").stdout
        )
        registry = Registry.load()
        for row in report["files"]:
            within = [
                coder.compress(pixels(Path(row["source"])), registry.codec(name), target_bytes=700)
                for name in ("jpeg", "webp")
            ]
            best = max(within, key=lambda coded: coded.psnr_db)
            assert Path(row["file"]).read_bytes() == best.data
            assert Path(row["file"]).suffix == best.way.codec.extension
        again = json.loads(
            ok("compress", tree, "out", "--codec", "auto", "--target-bytes", 700, "--json").stdout
        )
        assert len(again["skipped"]) == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("in out -q 5", "--quality belongs to one codec"),
            ("in out --target-bpp 1 --option a=1", "--option belongs to one codec"),
            ("in out --target-bpp 1 --model x", "--model belongs to one codec"),
            ("in/a.png a.jpg --target-bpp 1", "--codec auto gives files their extension itself"),
        ],
    )
    @pytest.mark.usefixtures("tree")
    def test_what_auto_refuses(self, arguments: str, message: str) -> None:
        assert message in refused("compress", *arguments.split(), "--codec", "auto")


class TestInfoAndPreview:
    @pytest.fixture
    def coded(self, tree: Path, saved: Path) -> Path:
        model = saved / "jpeg.safetensors"
        asked = ("--codec", "jpeg", "-q", 60, "--scale", 2, "--model", model)
        ok("compress", tree / "a.png", "a.jpg", *asked)
        return Path("a.jpg")

    def test_info(self, coded: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        codec = Registry.load().codec("jpeg")
        description = fresh_model("jpeg").describe(
            pixels(Path("in/a.png")), round(255 * codec.quality_scale.unit(60)) / 255, 2
        )
        num_bytes = coded.stat().st_size
        expected = {
            "file": "a.jpg",
            "codec": "jpeg",
            "size": [40, 56],
            "coded_size": [20, 28],
            "grey": False,
            "num_bytes": num_bytes,
            "bpp": pytest.approx(8 * num_bytes / (40 * 56)),
            "payload": {
                "num_bytes": num_bytes - len(codec.encode(description, 60)),
                "model": fresh_model("jpeg").id,
                "model_installed": False,
                "scale": 2,
                "level": round(255 * codec.quality_scale.unit(60)),
                "num_coefficients": 0,
                "check": "ok",
            },
        }
        assert json.loads(ok("info", coded, "--json").stdout) == expected
        assert "not installed" in ok("info", coded).stdout
        monkeypatch.setenv("VCFRAME_MODELS", str(saved))
        text = ok("info", coded).stdout
        for line in ("56x40 pixels, colour", "28x20 pixels", f"{fresh_model('jpeg').id}, installed"):
            assert line in text
        assert "check value ok" in text

    def test_info_of_an_ordinary_file(self, tree: Path) -> None:
        PIL.Image.open(tree / "a.png").convert("L").save("grey.jpg")
        report = json.loads(ok("info", "grey.jpg", "--json").stdout)
        assert (report["codec"], report["size"], report["grey"]) == ("jpeg", [40, 56], True)
        assert report["payload"] is None
        assert "none: an ordinary file" in ok("info", "grey.jpg").stdout
        assert "no codec recognises this file" in refused("info", tree / "a.png")

    def test_info_of_a_damaged_file(self, coded: Path) -> None:
        assert "claims 56x40 pixels" in refused("info", coded, "--max-pixels", 1000)
        data = bytearray(coded.read_bytes())
        data[-10] ^= 1
        coded.write_bytes(data)
        assert "check value" in refused("info", coded)

    def test_preview_needs_no_model(self, coded: Path) -> None:
        assert "no model file or id" in refused("decompress", coded, "a.png")
        text = ok("decompress", coded, "a.png", "--preview").stdout
        assert f"model {fresh_model('jpeg').id} restores it" in text
        codec = Registry.load().codec("jpeg")
        assert np.array_equal(pixels(Path("a.png")), codec.decode(coded.read_bytes()))
        assert pixels(Path("a.png")).shape == (20, 28, 3)
