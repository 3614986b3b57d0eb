"""Image sets, fetched from a server of our own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from command_line import ok, refused, run

from vcframe.bench import sets
from vcframe.bench.sets import ImageSet, SetFile, check, fetch, find_set, list_sets, local_files, set_folder
from vcframe.codec import Image, ImageError, UsageError
from vcframe.images import read_image, write_image

ARCHIVES = {
    "clic2020-mobile-test": 178,
    "clic2020-mobile-valid": 61,
    "clic2020-professional-test": 250,
    "clic2020-professional-valid": 41,
}
SIZES = {"embedded": 4, "kodak": 24, "set5": 5, "set7": 7, "set14": 14, "live1": 29, "classic5": 5}


class Server(ThreadingHTTPServer):
    """Serves a folder and remembers what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def pictures(tmp_path: Path, photo: Image, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """A set `mine` of three pictures that lies in `tmp_path/served/mine`; it has no address."""
    served = tmp_path / "served" / "mine"
    served.mkdir(parents=True)
    files = []
    for i in range(3):
        path = served / f"p{i}.png"
        write_image(path, photo[:20, i : i + 30])
        data = path.read_bytes()
        samples = hashlib.sha256(b"(20, 30, 3)" + photo[:20, i : i + 30].tobytes()).hexdigest()
        files.append(SetFile(path.name, len(data), hashlib.sha256(data).hexdigest(), samples))
    made = ImageSet("mine", "Three crops", "this test", "none", None, tuple(files))
    monkeypatch.setattr(sets, "list_sets", lambda: [made])
    monkeypatch.setenv("VCFRAME_DATA", str(tmp_path / "data"))
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "served") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


# What is known


def test_the_known_sets_are_complete() -> None:
    assert {known.name: known.num_images for known in list_sets()} == {**SIZES, **ARCHIVES}
    for known in list_sets():
        assert known.title
        assert known.source
        assert known.licence
        assert known.url is None or (known.url.startswith("https://") and known.url.endswith("/"))
        for digests in ([f.sha256 for f in known.files], [f.samples_sha256 for f in known.files]):
            assert len(set(digests)) == len(known.files)
            assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
        if known.name in ARCHIVES:
            assert known.archive is not None
            assert len(bytes.fromhex(known.archive.sha256)) == 32
            assert known.num_bytes == known.archive.num_bytes > 1e8


def test_the_published_pictures_have_these_digests(shared: Path) -> None:
    for name in SIZES:
        files = local_files(find_set(name), shared / "data" / name)
        assert [path.name for path in files] == sorted(path.name for path in files)
        assert len(files) == SIZES[name]
    path = shared / "data" / "set7" / "leaves.png"
    leaves = next(file for file in find_set("set7").files if file.name == path.name)
    assert sets.samples_sha256(path) == leaves.samples_sha256
    assert path.stat().st_size == leaves.num_bytes


def test_an_unknown_set_is_answered_with_close_ones() -> None:
    assert "did you mean 'kodak'" in refused("data", "verify", "kodac")
    with pytest.raises(UsageError, match=r"known: classic5, .*, embedded, kodak"):
        find_set("imagenet")


# Fetching


def test_a_set_is_fetched_from_a_mirror_and_its_files_only_once(pictures: ImageSet, server: Server) -> None:
    seen: list[tuple[int, int, str]] = []
    folder = fetch(pictures, server.url + "/", lambda *step: seen.append(step))
    assert server.asked == ["/mine/p0.png", "/mine/p1.png", "/mine/p2.png"]
    assert seen == [(0, 3, "p0.png"), (1, 3, "p1.png"), (2, 3, "p2.png")]
    assert folder == set_folder(pictures)
    assert [path.parent for path in local_files(pictures)] == [folder] * 3
    (folder / "p1.png").write_bytes(b"damaged since")
    (folder / "p2.png").unlink()
    fetch(pictures, server.url)
    assert server.asked[3:] == ["/mine/p1.png", "/mine/p2.png"]
    assert len(local_files(pictures)) == 3


def test_a_set_with_an_address_is_fetched_from_there(pictures: ImageSet, server: Server) -> None:
    fetch(dataclasses.replace(pictures, url=f"{server.url}/mine/"))
    assert len(local_files(pictures)) == 3


def test_a_stopped_fetch_keeps_what_it_has_and_goes_on(
    pictures: ImageSet, server: Server, tmp_path: Path
) -> None:
    hidden = (tmp_path / "served/mine/p1.png").rename(tmp_path / "p1.png")
    with pytest.raises(ImageError, match=r"/mine/p1.png cannot be fetched: 404"):
        fetch(pictures, server.url)
    assert [path.name for path in set_folder(pictures).iterdir()] == ["p0.png"]
    hidden.rename(tmp_path / "served/mine/p1.png")
    fetch(pictures, server.url)
    assert server.asked == ["/mine/p0.png", "/mine/p1.png", "/mine/p1.png", "/mine/p2.png"]


def test_another_picture_is_not_taken(pictures: ImageSet, server: Server, tmp_path: Path) -> None:
    (tmp_path / "served/mine/p0.png").write_bytes((tmp_path / "served/mine/p1.png").read_bytes())
    line = refused("data", "fetch", "mine", "--mirror", server.url)
    assert f"{server.url}/mine/p0.png cannot be fetched" in line
    assert "hash" in line
    assert list(set_folder(pictures).iterdir()) == []


def test_an_absent_server_is_one_line(pictures: ImageSet) -> None:
    line = refused("data", "fetch", "mine", "--mirror", "http://127.0.0.1:9")
    assert line.startswith("http://127.0.0.1:9/mine/p0.png cannot be fetched: ")


def test_a_set_without_an_address_says_what_to_do(pictures: ImageSet) -> None:
    line = refused("data", "fetch", "mine")
    assert "no public address" in line
    assert "--images" in line
    assert "--mirror" in line


# Folders of one's own


def test_a_folder_s_pictures_come_in_the_set_s_order(pictures: ImageSet, tmp_path: Path) -> None:
    folder = tmp_path / "served/mine"
    assert local_files(pictures, folder) == [folder / f"p{i}.png" for i in range(3)]


def test_the_same_picture_in_another_lossless_file_is_accepted(pictures: ImageSet, tmp_path: Path) -> None:
    folder = tmp_path / "served/mine"
    PIL.Image.open(folder / "p0.png").save(folder / "p0.bmp")
    (folder / "p0.png").unlink()
    PIL.Image.open(folder / "p1.png").save(folder / "p1.png", compress_level=0)
    assert [path.name for path in local_files(pictures, folder)] == ["p0.bmp", "p1.png", "p2.png"]


def test_what_is_missing_and_what_differs_is_named(pictures: ImageSet, tmp_path: Path) -> None:
    folder = tmp_path / "served/mine"
    image = read_image(folder / "p1.png")
    image[0, 0, 0] ^= 1
    write_image(folder / "p1.png", image)
    (folder / "p2.png").unlink()
    (folder / "p0.png").write_bytes(b"no picture")
    assert [found.state for found in check(pictures, folder)] == ["differs", "differs", "missing"]
    line = refused("data", "verify", "mine", "--images", folder)
    assert "not there: p2.png; another picture: p0.png, p1.png" in line


def test_a_turned_picture_is_another_one(pictures: ImageSet, tmp_path: Path, photo: Image) -> None:
    """The samples in raster order are the same, the shape is not."""
    write_image(tmp_path / "served/mine/p0.png", np.ascontiguousarray(photo[:20, :30]).reshape(30, 20, 3))
    assert check(pictures, tmp_path / "served/mine")[0].state == "differs"


# Archives


@pytest.fixture
def packed(pictures: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """The set `mine` as an archive, with what macOS adds to one."""
    path = tmp_path / "served" / "mine" / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in reversed(pictures.files):
            archive.write(path.with_name(file.name), f"valid/{file.name}")
        archive.writestr("__MACOSX/valid/._p0.png", b"no picture")
        archive.writestr("valid/readme.txt", b"no picture")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    text = f"""title = "Packed"
source = "this test"
licence = "none"
[archive]
name = "all.zip"
num_bytes = {path.stat().st_size}
sha256 = "{digest}"
num_images = 3
"""
    monkeypatch.setattr(sets, "list_sets", lambda: [sets._parse("mine", text)])
    return find_set("mine")


def test_an_archive_s_pictures_are_unpacked_and_known(
    packed: ImageSet, pictures: ImageSet, server: Server
) -> None:
    assert packed.files == ()
    assert json.loads(ok("data", "list", "--json").stdout)[0]["state"] == "local folder only"
    assert "known once it was fetched" in refused("data", "verify", "mine", "--json")
    ok("data", "fetch", "mine", "--mirror", server.url)
    assert server.asked == ["/mine/all.zip"]
    fetched = find_set("mine")
    assert fetched.files == pictures.files
    assert [path.name for path in local_files(fetched)] == ["p0.png", "p1.png", "p2.png"]
    assert not (set_folder(fetched) / "all.zip").exists()
    fetch(fetched, server.url)
    assert server.asked == ["/mine/all.zip"]
    (set_folder(fetched) / "p1.png").write_bytes(b"damaged since")
    assert "another picture: p1.png" in refused("data", "verify", "mine")
    fetch(fetched, server.url)
    assert "mine: all 3 pictures are in" in ok("data", "verify", "mine").stdout


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b"{}", b'{"archive": "0", "files": [{"name": 1}]}'])
def test_damaged_digests_are_fetched_again(packed: ImageSet, server: Server, damage: bytes) -> None:
    digests = fetch(packed, server.url) / "digests.json"
    digests.write_bytes(damage)
    assert "known once it was fetched" in refused("data", "verify", "mine")
    fetch(find_set("mine"), server.url)
    assert len(local_files(find_set("mine"))) == 3


def test_another_archive_is_not_unpacked(packed: ImageSet, server: Server, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "served/mine/all.zip", "a") as archive:
        archive.writestr("valid/p9.png", b"one more")
    with pytest.raises(ImageError, match=r"all.zip cannot be fetched: .*hash"):
        fetch(packed, server.url)
    assert list(set_folder(packed).iterdir()) == []


# The commands


def test_the_commands(pictures: ImageSet, server: Server, tmp_path: Path) -> None:
    (row,) = json.loads(ok("data", "list", "--json").stdout)
    assert row["name"] == "mine"
    assert row["state"] == "local folder only"
    assert "mine: 3 pictures in" in ok("data", "fetch", "mine", "--mirror", server.url).stdout
    assert "mine: all 3 pictures are in" in ok("data", "verify", "mine").stdout
    assert "here" in ok("data", "list").stdout
    (set_folder(pictures) / "p0.png").unlink()
    assert json.loads(ok("data", "list", "--json").stdout)[0]["state"] == "2 of 3 here"
    failed = run("data", "verify", "mine", "--json")
    assert failed.exit_code == 1
    assert [found["state"] for found in json.loads(failed.stdout)] == ["missing", "ok", "ok"]
