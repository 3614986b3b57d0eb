"""What a browser shows: the same pixels with and without a payload."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from backends import colour, make_codec

PAGE = """<!doctype html><body>waiting<script>
const pixels = async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
};
Promise.all([pixels("PLAIN"), pixels("CARRYING")]).then(([a, b]) => {
  const same = a.width === b.width && a.data.every((sample, i) => sample === b.data[i]);
  document.body.textContent = `${a.width}x${a.height} ${same ? "same" : "different"}`;
}, (error) => { document.body.textContent = `${error}`; });
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no Chromium is installed (looked for {', '.join(names)})")
    return found


@pytest.mark.parametrize(("name", "kind"), [("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_chromium_does_not_see_a_payload(name: str, kind: str, chromium: str, tmp_path: Path) -> None:
    codec = make_codec(name)
    plain = codec.encode(colour(), codec.quality_scale.native(0.3))
    page = PAGE
    for word, data in (("PLAIN", plain), ("CARRYING", codec.embed(plain, bytes(range(13))))):
        page = page.replace(word, f"data:{kind};base64,{base64.b64encode(data).decode()}")
    (tmp_path / "page.html").write_text(page)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [chromium, *options, "--virtual-time-budget=10000", "--dump-dom"]
    # On a busy machine the page's virtual time may run out before the decoder's thread is done.
    for _ in range(5):
        shown = subprocess.run(
            [*command, f"file://{tmp_path / 'page.html'}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        if "<body>waiting" not in shown:
            break
    assert "145x96 same" in shown
