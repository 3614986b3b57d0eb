"""docs/tutorial.md, followed to the letter, and the codec of docs/transcript.md."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from command_line import ok, refused
from pages import blocks

from vcframe import Codec, Image
from vcframe.registry import Registry
from vcframe.testing import codec_checks

PAGE = "tutorial.md"
PLUGIN = "vcframe_jls.py"


def source(*titles: str) -> str:
    return "\n".join(text for title, text in blocks(PAGE, "python") if title in titles)


def failed(codec: Codec) -> list[str]:
    return [check.name for check in codec_checks(codec) if check.outcome().status != "passed"]


@pytest.fixture
def folder(tmp_path: Path, photo: Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An author's: the finished plugin and some pictures."""
    monkeypatch.chdir(tmp_path)
    titles = (PLUGIN, f"{PLUGIN}, the new probe", f"{PLUGIN}, more methods")
    # A method defined again takes the place of the first.
    Path(PLUGIN).write_text(source(*titles))
    names = ("photo.png", "pictures/a.png", "pictures/b.png", "others/c.png")
    for number, name in enumerate(names):
        Path(name).parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(photo[10 * number :][:100, :150]).save(name)
    return tmp_path


def test_every_block_belongs_to_the_plugin_or_stands_alone() -> None:
    titles = {title for title, _ in blocks(PAGE, "python")}
    assert titles == {PLUGIN, f"{PLUGIN}, the new probe", f"{PLUGIN}, more methods", "for example"}
    exec(source("for example"), {})


def test_the_first_draft_fails_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / PLUGIN).write_text(source(PLUGIN))
    codec = Registry.load(plugin_files=[tmp_path / PLUGIN]).codec("jls")
    assert failed(codec) == ["truncated_refused"]
    (found,) = [check.outcome() for check in codec_checks(codec) if check.name == "truncated_refused"]
    (told,) = (text for _, text in blocks(PAGE, "text"))
    assert found.status == "failed"
    assert found.promise in told
    assert found.reason is not None
    assert found.reason.split(": ", 1)[1] in told  # how many bytes a file has is its library's


def test_the_finished_plugin_passes_and_its_files_are_ordinary(folder: Path, photo: Image) -> None:
    import imagecodecs

    codec = Registry.load(plugin_files=[folder / PLUGIN]).codec("jls")
    assert failed(codec) == []
    plain = codec.encode(photo, 22)
    decoded = imagecodecs.jpegls_decode(codec.embed(plain, b"some bytes"))
    np.testing.assert_array_equal(decoded, codec.decode(plain))
    assert np.abs(decoded.astype(int) - photo).max() == 22


def test_the_commands_run(folder: Path) -> None:
    lines = "".join(text for _, text in blocks(PAGE, "sh")).splitlines()
    here = lines[: next(i for i, line in enumerate(lines) if line.startswith("pip install"))]
    verbs = []
    for line in dict.fromkeys(here):
        program, *arguments = shlex.split(line)
        assert program == "vcframe"
        verb = next(word for word in arguments if word not in ("--plugin", PLUGIN))
        verbs.append(verb)
        if verb == "check":  # done above
            continue
        ok(*shlex.split(line.replace("--minutes 20", "--steps 5 --device cpu"))[1:])
    assert verbs == ["check", "train", "evaluate", "compress", "decompress", "info", "plugins"]
    assert Path("restored.png").exists()
    assert "vcframe-jls" in refused("plugins", "new", "jls")
    assert "class JlsCodec" in Path("vcframe-jls", PLUGIN).read_text()
    assert "JlsCodec" in Path("vcframe-jls/tests/test_codec.py").read_text()


def test_the_codec_of_the_transcript_passes_too(tmp_path: Path) -> None:
    ((title, text),) = blocks("transcript.md", "python")
    (tmp_path / title).write_text(text)
    assert failed(Registry.load(plugin_files=[tmp_path / title]).codec("jxr")) == []
