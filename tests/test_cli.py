"""The command line, in process: what it prints, writes and refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data
from command_line import fresh_model, ok, refused, run

import vcframe.learning
from vcframe.metrics import psnr
from vcframe.model import Model
from vcframe.registry import Registry

pytestmark = pytest.mark.usefixtures("no_shipped_models")

PLUGIN = """
import vcframe
from vcframe_plugins.jpeg import JpegCodec

class Twin(JpegCodec):
    name = "{name}"
    extension = ".{name}"
    def unavailable(self):
        return {unavailable!r}
    def embed(self, data, payload):
        raise NotImplementedError
    def extract(self, data):
        return None

@vcframe.hookimpl
def vcframe_codecs():
    return [Twin]
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    PIL.Image.fromarray(np.ascontiguousarray(skimage.data.chelsea()[100:149, 100:167])).save(path)
    return path


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with PIL.Image.open(path) as opened:
        return np.asarray(opened)


class TestListing:
    def test_help_names_every_verb(self) -> None:
        text = ok("--help").stdout
        for verb in [
            "codecs",
            "check",
            "plugins",
            "train",
            "join",
            "compress",
            "decompress",
            "info",
            "evaluate",
            "models",
            "demo",
        ]:
            assert f"\n  {verb} " in text

    def test_version(self) -> None:
        assert ok("--version").stdout == f"vcframe {vcframe.__version__}\n"

    def test_codecs(self) -> None:
        text = ok("codecs").stdout
        for cell in ("jpeg2000", ".j2k", "51 .. 0", "0 .. 100", "subsampling=4:2:0"):
            assert cell in text
        assert "libjpeg-turbo" not in text

    def test_codecs_as_json(self) -> None:
        rows = {row["codec"]: row for row in json.loads(ok("codecs", "--json").stdout)}
        assert {"jpeg", "jpeg2000", "webp", "hevc"} <= set(rows)
        hevc = rows["hevc"]
        assert (hevc["quality"]["worst"], hevc["quality"]["best"]) == (51, 0)
        assert hevc["quality"]["sweep"][0] == 51
        assert rows["webp"]["traits"]["grey"] is False
        assert rows["jpeg"]["options"]["subsampling"] == "4:2:0"
        assert not any({"unavailable", "version"} & set(row) for row in rows.values())

    def test_versions_on_request(self) -> None:
        assert "libjpeg-turbo" in ok("codecs", "--versions").stdout
        rows = {row["codec"]: row for row in json.loads(ok("codecs", "--versions", "--json").stdout)}
        assert rows["webp"]["version"].startswith("libwebp")
        assert rows["webp"]["unavailable"] is None

    def test_an_unavailable_codec_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "twin.py").write_text(PLUGIN.format(name="twin", unavailable="install twinlib"))
        result = ok("--plugin", tmp_path / "twin.py", "codecs", "--versions")
        assert [line.split()[-2] for line in result.stdout.splitlines() if " twin " in line] == [
            "unavailable"
        ]
        assert "codec twin cannot run here: install twinlib" in result.stderr
        rows = json.loads(ok("--plugin", tmp_path / "twin.py", "codecs", "--json", "--versions").stdout)
        assert [(r["unavailable"], r["version"]) for r in rows if r["codec"] == "twin"] == [
            ("install twinlib", None)
        ]

    def test_plugins(self, tmp_path: Path) -> None:
        (tmp_path / "twin.py").write_text(PLUGIN.format(name="twin", unavailable=None))
        text = ok("--plugin", tmp_path / "twin.py", "plugins").stdout
        assert "vcframe_plugins.jpeg" in text
        assert str(tmp_path / "twin.py") in text
        rows = json.loads(ok("--plugin", tmp_path / "twin.py", "plugins", "--json").stdout)
        assert ("twin", "loaded", ["twin"]) in [(r["name"], r["status"], r["codecs"]) for r in rows]

    def test_a_broken_installed_plugin_is_listed_with_its_reason(self, install: Callable[..., None]) -> None:
        install("broken-dist", {"broken": "broken_module"}, broken_module="raise ValueError('oh no')")
        result = ok("plugins")
        assert "broken-dist 1.5" in result.stdout
        assert "plugin broken failed: ValueError: oh no" in result.stderr

    def test_a_broken_plugin_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "bad.py").write_text("1 / 0")
        assert "ZeroDivisionError" in refused("--plugin", tmp_path / "bad.py", "codecs")

    def test_models(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VCFRAME_MODELS", str(saved))
        text = ok("models").stdout
        for cell in (fresh_model("jpeg").id, "1234 steps", "-12.3 %", "jpeg.safetensors", "kMAC"):
            assert cell in text
        listed = json.loads(ok("models", "--json").stdout)
        (model,) = listed["models"]
        assert model["id"] == fresh_model("jpeg").id
        assert model["num_bytes"] == (saved / "jpeg.safetensors").stat().st_size
        assert model["codec"]["codec"] == "jpeg"
        # conv 9x9x1x128 + 6 of 3x3x128x128 + 9x9x128x1 with bias: arXiv 1712.05969, section III
        paper = [r for r in listed["presets"] if r["preset"] == "paper" and r["role"] == "post-processing"]
        layers = 81 * 128 + 128 + 6 * (9 * 128 * 128 + 128) + 81 * 128 + 1
        assert {row["num_parameters"] for row in paper} == {layers}

    def test_no_models(self) -> None:
        result = ok("models")
        assert "no models are installed" in result.stderr
        assert "kMAC" in result.stdout


class TestCoding:
    def test_there_and_back(self, picture: Path, saved: Path, tmp_path: Path) -> None:
        out, back, model = tmp_path / "photo.jpg", tmp_path / "back.png", saved / "jpeg.safetensors"
        text = ok(
            "compress", picture, out, "--codec", "jpeg", "-q", 60, "--scale", 2, "--model", model
        ).stdout
        assert pixels(out).shape == (25, 34, 3)
        assert f"{out.stat().st_size:,} bytes" in text
        assert f"model {fresh_model('jpeg').id}, coded at 34x25" in text
        assert "67x49" in ok("decompress", out, back, "--model", model).stdout
        assert pixels(back).shape == (49, 67, 3)
        half_and_back = cv2.resize(pixels(out), (68, 50), interpolation=cv2.INTER_CUBIC)[:49, :67]
        assert np.abs(pixels(back).astype(int) - half_and_back).max() <= 1
        assert f"restores to {psnr(pixels(picture), pixels(back)):.2f} dB" in text

    def test_an_installed_model_needs_no_naming(
        self, picture: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VCFRAME_MODELS", str(saved))
        out = tmp_path / "photo.jpg"
        ok("compress", picture, out, "--codec", "jpeg", "--target-bpp", 2.5, "--scale", 2)
        assert 8 * out.stat().st_size <= 2.5 * 49 * 67
        assert fresh_model("jpeg").id in ok("decompress", out, tmp_path / "back.png").stdout

    def test_the_codec_has_the_options_that_the_model_was_trained_with(
        self, picture: Path, tmp_path: Path
    ) -> None:
        fresh_model("jpeg", subsampling="4:4:4", progressive="never").save(tmp_path / "own.safetensors")
        base = ("compress", picture, tmp_path / "a.jpg", "--codec", "jpeg", "-q", 60, "--force", "--scale", 2)
        model = ("--model", tmp_path / "own.safetensors")
        for options, layers, is_progressive in (
            ((*model,), [(1, 1)] * 3, False),
            ((*model, "--option", "progressive=always"), [(1, 1)] * 3, True),
            (("--plain",), [(2, 2), (1, 1), (1, 1)], False),
        ):
            ok(*base[: None if "--plain" not in options else -2], *options)
            with PIL.Image.open(tmp_path / "a.jpg") as file:
                assert isinstance(file, PIL.JpegImagePlugin.JpegImageFile)
                assert [(layer[1], layer[2]) for layer in file.layer] == layers
                assert bool(file.info.get("progressive")) == is_progressive

    def test_json(self, picture: Path, saved: Path, tmp_path: Path) -> None:
        out, model = tmp_path / "photo.jpg", saved / "jpeg.safetensors"
        arguments = (
            "compress",
            picture,
            out,
            "--codec",
            "jpeg",
            "-q",
            60,
            "--scale",
            2,
            "--model",
            model,
            "--json",
        )
        report = json.loads(ok(*arguments).stdout)
        assert report["num_bytes"] == out.stat().st_size
        assert report["bpp"] == pytest.approx(8 * out.stat().st_size / (49 * 67))
        assert (report["size"], report["coded_size"]) == ([49, 67], [25, 34])
        assert (report["quality"], report["model"]) == (60, fresh_model("jpeg").id)
        assert report["codec"]["options"]["subsampling"] == "4:2:0"

    def test_plain(self, picture: Path, tmp_path: Path) -> None:
        out = tmp_path / "photo.webp"
        arguments = ("compress", picture, out, "--codec", "webp", "-q", 30, "--plain", "--option", "method=2")
        assert "plain codec" in ok(*arguments).stdout
        codec = Registry.load().codec("webp", method=2)
        assert out.read_bytes() == codec.encode(pixels(picture), 30)
        result = ok("decompress", out, tmp_path / "back.png")
        assert "no vcframe payload" in result.stderr
        assert np.array_equal(pixels(tmp_path / "back.png"), codec.decode(out.read_bytes()))

    @pytest.mark.parametrize("more", [("--plain",), ()])
    def test_grey(self, picture: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
        """WebP has no grey: what it restores is still judged against the grey original."""
        model = tmp_path / "webp.safetensors"
        fresh_model("webp").save(model)
        grey = tmp_path / "grey.png"
        PIL.Image.open(picture).convert("L").save(grey)
        by = more or ("--model", str(model))
        arguments = ("compress", grey, tmp_path / "grey.webp", "--codec", "webp", "-q", 80, *by, "--json")
        assert 25 < json.loads(ok(*arguments).stdout)["psnr_db"] < 60

    def test_the_encoder_says_what_it_chose(self, picture: Path, saved: Path, tmp_path: Path) -> None:
        base = ("compress", picture, tmp_path / "photo.jpg", "--codec", "jpeg", "--model")
        arguments = (*base, saved / "jpeg.safetensors", "--force", "-q")
        for quality, scale, word in ((1, 2, "coded at 34x25"), (90, None, "which no network improves on")):
            report = json.loads(ok(*arguments, quality, "--json").stdout)
            assert (report["scale"], report["model"] is None) == (scale, scale is None)
            assert word in ok(*arguments, quality).stdout
        assert "--scale 3: give auto, 1, 2 or 4" in refused(*arguments, 9, "--scale", 3)
        assert "no networks for scale 1" in refused(*arguments, 9, "--scale", 1)

    def test_a_codec_without_a_place_for_the_payload(self, picture: Path, tmp_path: Path) -> None:
        plugin, model = tmp_path / "twin.py", tmp_path / "twin.safetensors"
        plugin.write_text(PLUGIN.format(name="twin", unavailable=None))
        trained = fresh_model("jpeg")
        codec = {**trained.card.codec, "codec": "twin"}
        Model(trained.card.model_copy(update={"codec": codec}), trained.networks).save(model)
        head = ("--plugin", plugin, "compress", picture)
        tail = ("--codec", "twin", "-q", 50, "--scale", 2, "--model", model)
        assert "name it photo.vcf" in refused(*head, tmp_path / "photo.twin", *tail)
        plain = ("--codec", "twin", "-q", 90, "--model", model)
        told = refused(*head, tmp_path / "photo.vcf", *plain)
        assert told == "a twin file that no network improves on needs no container: name it photo.twin"
        ok(*head, tmp_path / "photo.vcf", *tail)
        back = tmp_path / "back.png"
        ok("--plugin", plugin, "decompress", tmp_path / "photo.vcf", back, "--model", model)
        assert pixels(back).shape == (49, 67, 3)
        message = refused("decompress", tmp_path / "photo.vcf", tmp_path / "b.png", "--model", model)
        assert "unknown codec 'twin'" in message

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("IN out.jpg --codec jpgg -q 5", "unknown codec 'jpgg'; did you mean 'jpeg'"),
            ("IN out.jpg --codec jpeg --plain", "either a quality or a target"),
            ("IN out.jpg --codec jpeg --plain -q 5 --target-bpp 1", "either a quality or a target"),
            ("IN out.jpg --codec jpeg --plain -q 500", "quality 500 is outside 1..95"),
            ("IN out.jpg --codec jpeg --plain --target-bpp 0.001", "the lowest is"),
            ("IN out.jpg --codec jpeg --plain -q 5 --option colour", "'colour' is not KEY=VALUE"),
            ("IN out.jpg --codec jpeg --plain -q 5 --option x=1", "no option 'x'; options: progressive"),
            ("IN out.jpg --codec jpeg --plain -q 5 --option self=1", "no option 'self'"),
            ("IN out.jpg --codec jpeg --plain -q 5 --option max_pixels=5", "no option 'max_pixels'"),
            ("IN out.jpg --codec jpeg -q 5", "no model for codec jpeg is installed"),
            ("IN out.jpg --codec jpeg -q 5 --model 0badcafe", "no model file or id '0badcafe'"),
            ("IN out.jpg --codec jpeg -q 5 --plain --model x", "either --plain or --model"),
            ("IN out.webp --codec webp -q 5 --model MODEL", "was trained for jpeg"),
            ("IN out.vcf --codec jpeg -q 5 --model MODEL", "a jpeg file needs no container: name it out.jpg"),
            ("IN out.vcf --codec jpeg -q 5 --plain", "a jpeg file needs no container: name it out.jpg"),
            ("IN out.jpg --codec jpeg -q 5 --model IN", "not a readable model file"),
            ("IN out.png --codec jpeg --plain -q 5", "codec jpeg writes .jpg files, not .png"),
            ("IN out --codec jpeg --plain -q 5", "writes .jpg files, not no extension"),
            ("IN none/out.jpg --codec jpeg --plain -q 5", "the folder none does not exist"),
            ("IN there.jpg --codec jpeg --plain -q 5", "there.jpg exists; give --force"),
            ("none.png out.jpg --codec jpeg --plain -q 5", "none.png: cannot be read: No such file"),
            ("there.jpg out.jpg --codec jpeg --plain -q 5", "not a picture"),
            ("IN out.jpg --codec jpeg -q 5 --model MODEL --device abacus", "device 'abacus' cannot be used"),
        ],
    )
    def test_what_compress_refuses(
        self,
        arguments: str,
        message: str,
        picture: Path,
        saved: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("there.jpg").write_text("mine")
        before = sorted(tmp_path.iterdir())
        names = {"IN": picture, "MODEL": saved / "jpeg.safetensors"}
        assert message in refused("compress", *(names.get(word, word) for word in arguments.split()))
        assert sorted(tmp_path.iterdir()) == before
        assert Path("there.jpg").read_text() == "mine"

    @pytest.mark.parametrize("name", ["photo.jpeg", "photo.JPG"])
    def test_usual_names_of_the_format_do(self, name: str, picture: Path, tmp_path: Path) -> None:
        ok("compress", picture, tmp_path / name, "--codec", "jpeg", "-q", 5, "--plain")
        assert pixels(tmp_path / name).shape == (49, 67, 3)

    def test_decompress_as_json(self, picture: Path, saved: Path, tmp_path: Path) -> None:
        out, back, model = tmp_path / "photo.jpg", tmp_path / "back.png", saved / "jpeg.safetensors"
        ok("compress", picture, out, "--codec", "jpeg", "-q", 60, "--scale", 2, "--model", model)
        assert json.loads(ok("decompress", out, back, "--model", model, "--json").stdout) == {
            "file": str(back),
            "codec": "jpeg",
            "model": fresh_model("jpeg").id,
            "size": [49, 67],
            "coded_size": [25, 34],
        }

    def test_force_overwrites(self, picture: Path, tmp_path: Path) -> None:
        out, back = tmp_path / "photo.jpg", tmp_path / "back.png"
        out.write_text("mine")
        back.write_text("mine")
        ok("compress", picture, out, "--codec", "jpeg", "-q", 5, "--plain", "--force")
        ok("decompress", out, back, "--force")
        assert pixels(back).shape == (49, 67, 3)

    def test_what_decompress_refuses(self, picture: Path, saved: Path, tmp_path: Path) -> None:
        good, model = tmp_path / "photo.jpg", saved / "jpeg.safetensors"
        ok("compress", picture, good, "--codec", "jpeg", "-q", 60, "--scale", 2, "--model", model)
        data = bytearray(good.read_bytes())
        data[-10] ^= 1
        (tmp_path / "damaged.jpg").write_bytes(data)
        (tmp_path / "noise.jpg").write_bytes(bytes(range(256)))
        fresh_model("jpeg", seed=2).save(tmp_path / "other.safetensors")
        before = sorted(tmp_path.iterdir())
        back = tmp_path / "back.png"
        right = fresh_model("jpeg").id
        for arguments, message in (
            ((good, back), f"no model file or id '{right}'"),
            ((good, back, "--model", tmp_path / "other.safetensors"), f"made with model {right}"),
            ((good, good, "--model", model), "exists; give --force"),
            ((good, tmp_path / "back.xyz", "--model", model), "cannot write extension '.xyz'"),
            ((good, tmp_path / "none" / "back.png"), "does not exist; make it first"),
            ((tmp_path / "none.jpg", back), "cannot be read: No such file"),
            ((tmp_path / "damaged.jpg", back, "--model", model), "damaged"),
            ((tmp_path / "noise.jpg", back), "no codec recognises this file"),
            ((good, back, "--model", model, "--max-pixels", 3000), "claims 67x49 pixels"),
        ):
            assert message in refused("decompress", *arguments)
        assert sorted(tmp_path.iterdir()) == before

    def test_usage_errors_exit_with_2(self, picture: Path) -> None:
        assert run("compress", picture, "out.jpg").exit_code == 2
        assert run("compress", picture, "out.jpg", "--codec", "jpeg", "-q", "high").exit_code == 2
        assert run("squeeze").exit_code == 2

    def test_verbose_shows_the_traceback(self) -> None:
        result = run("-v", "decompress", "none.jpg", "back.png")
        assert result.exit_code == 1
        assert "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("vcframe: error: none.jpg")

    def test_ctrl_c_is_one_line(self, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*arguments: Any, **named: Any) -> NoReturn:
            raise KeyboardInterrupt

        monkeypatch.setattr("vcframe.coder.compress", interrupt)
        result = run("compress", picture, "out.jpg", "--codec", "jpeg", "-q", 5, "--plain")
        assert (result.exit_code, result.output) == (130, "vcframe: error: interrupted\n")


def test_the_installed_command() -> None:
    """`vcframe` ends the process with the status of the verb."""
    import subprocess

    code = "from vcframe.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", code, "decompress", "none.jpg", "x.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr == "vcframe: error: none.jpg: cannot be read: No such file or directory\n"
