"""The script that writes the tables of results out of committed files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_runs import curve, write_run
from benchmark_scripts import load_script

WEBP = "benchmarks/results/kodak-webp.json"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("tables")


def result(**changes: Any) -> dict[str, Any]:
    rates = [
        {"bpp": bpp, "num_images": 22, "plain_psnr_db": 25.0, "vcframe_psnr_db": 25.0 + 10 * bpp}
        for bpp in (0.05, 0.1, 0.15, 0.2, 0.3)
    ]
    return {
        "schema": "vcframe-evaluation",
        "schema_version": 4,
        "scales": [2],
        "chooses": False,
        "parts": {},
        "codec": {"codec": "webp", "options": {}},
        "plain": {"codec": "webp", "options": {}},
        "later_ranges": [],
        "model_id": "0badcafe",
        "card": {"training": {"2": {"schedule": "joint", "minutes": 24.6}}},
        "convention": "RGB PSNR",
        "ends_bpp": [0.3],
        "summary": {
            "num_images": 24,
            "num_missing": 1,
            "mean": -12.34,
            "lower_quartile": -15.0,
            "median": -12.0,
            "upper_quartile": 0.26,
            "covered": 0.5,
            "ssim_mean": -9.87,
            "ms_ssim_mean": -8.76,
        },
        "fixed_rates": rates,
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    (results / "kodak-webp.json").write_text(json.dumps(result()))
    nothing = {"num_images": 0, "plain_psnr_db": None, "vcframe_psnr_db": None}
    (results / "kodak-a.json").write_text(
        json.dumps(
            result(
                codec={"codec": "jpeg", "options": {}},
                card={"training": {"1": {}}},
                scales=[1],
                summary=dict.fromkeys(result()["summary"]) | {"num_images": 24, "num_missing": 24},
                fixed_rates=[{"bpp": bpp, **nothing} for bpp in (0.05, 0.1, 0.15, 0.2, 0.3)],
            )
        )
    )
    (results / "set7-jpeg.json").write_text("not read")
    (tmp_path / "docs").mkdir()
    text = "# Top\n<!-- results -->\nold\n<!-- /results -->\n\nEnd\n"
    (tmp_path / "README.md").write_text(text)
    (tmp_path / "docs/results.md").write_text(f"{text}<!-- runs -->\n<!-- /runs -->\n")
    return tmp_path


def run_script(script: ModuleType, folder: Path, *arguments: str) -> int:
    return int(script.main(["--root", str(folder), *arguments]))


def rows(page: Path) -> list[list[str]]:
    """The cells of every row of a page's tables, without their heads."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in ("scale", "---")]


def test_the_tables_are_written_between_the_markers(script: ModuleType, folder: Path) -> None:
    assert run_script(script, folder) == 0
    for page in ("README.md", "docs/results.md"):
        text = (folder / page).read_text()
        assert text.startswith("# Top\n<!-- results -->\n\n")
        assert "<!-- /results -->\n\nEnd\n" in text
        assert "old" not in text
    text = (folder / "README.md").read_text()
    assert text.splitlines()[5:7] == [
        "| jpeg | the same settings | **n/a** | n/a .. n/a | n/a | n/a |  "
        "| [kodak-a](benchmarks/results/kodak-a.json) |",
        "| webp | the same settings | **-12.3 %** | -15.0 % .. +0.3 % | n/a | -9.9 % |  "
        "| [kodak-webp](benchmarks/results/kodak-webp.json) |",
    ]
    text = (folder / "docs/results.md").read_text()
    jpeg, webp = rows(folder / "docs/results.md")
    assert jpeg == ["scale 1", "n/a", "n/a", "n/a", "n/a .. n/a", "0 of 24", *["n/a"] * 8]
    assert webp[:7] == [
        "scale 1/2",
        "joint, 25 min",
        "-12.3 %",
        "-12.0 %",
        "-15.0 % .. +0.3 %",
        "23 of 24",
        "50%",
    ]
    assert webp[7:10] == ["n/a", "-9.9 %", "-8.8 %"]
    assert webp[10:] == ["+1.00 dB (22)", "+1.50 dB (22)", "+2.00 dB (22)", "+3.00 dB (22)"]
    assert "Model 0badcafe, [kodak-webp](benchmarks/results/kodak-webp.json)." in text
    assert text.count("Convention: RGB PSNR.") == 1


def test_another_plain_codec_an_earlier_model_and_a_later_range_are_named(
    script: ModuleType, folder: Path
) -> None:
    upper = result()["summary"] | {"mean": -6.66}
    alone = {
        "scales": [],
        "summary": result()["summary"] | {"mean": -2.5},
        "fixed_rates": result()["fixed_rates"],
    }
    (folder / WEBP).write_text(
        json.dumps(
            result(
                codec={"codec": "jpeg", "options": {"flat": 0.75, "progressive": "auto"}},
                plain={"codec": "jpeg", "options": {"flat": 0.0, "progressive": "auto"}},
                card={"training": {"2": {"schedule": "post", "minutes": 45.1, "start": "c0ffee00"}}},
                later_ranges=[
                    {"span": [0.3, 0.8], "summary": upper, "parts": {"no networks": {"summary": upper}}}
                ],
                parts={"no networks": alone},
            )
        )
    )
    run_script(script, folder)
    brief = (folder / "README.md").read_text()
    assert (
        "| jpeg | flat=0.0 | **-12.3 %** | -15.0 % .. +0.3 % | -6.7 % | -9.9 % | -2.5 % | [kodak-webp]"
        in brief
    )
    assert (
        "### jpeg (flat=0.75, progressive=auto) against flat=0.0\n"
        in (folder / "docs/results.md").read_text()
    )
    _, chosen, plain = rows(folder / "docs/results.md")
    assert chosen[1] == "post, 45 min after c0ffee00"
    assert chosen[7] == "-6.7 % (0.8 bpp)"
    assert plain[:3] == ["no networks", "n/a", "-2.5 %"]


def test_a_choosing_encoder_has_a_row_of_its_own_before_each_scale(script: ModuleType, folder: Path) -> None:
    one, two = ({"schedule": "joint", "minutes": minutes} for minutes in (8.1, 12.2))
    view = {"summary": result()["summary"] | {"mean": -3.0}, "fixed_rates": result()["fixed_rates"]}
    both = result(
        card={"training": {"1": one, "2": two}},
        scales=[1, 2],
        chooses=True,
        parts={"scale 1": {"scales": [1], **view}, "scale 1/2": {"scales": [2], **view}},
    )
    (folder / WEBP).write_text(json.dumps(both))
    run_script(script, folder)
    assert [row[:3] for row in rows(folder / "docs/results.md")[1:]] == [
        ["chosen: 1, 1/2, plain", "joint, 20 min", "-12.3 %"],
        ["scale 1", "joint, 8 min", "-3.0 %"],
        ["scale 1/2", "joint, 12 min", "-3.0 %"],
    ]


def test_a_suites_rows_become_a_table_and_a_picture(script: ModuleType, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    made = [row for image in "ab" for row in curve(f"made/{image}.png", "webp", "plain")]
    made += [row for image in "ab" for row in curve(f"made/{image}.png", "webp", "vcframe", 0.8, scale=2)]
    run = write_run(folder / "benchmarks/results/runs/made", made, ("webp",))
    packed = gzip.compress((run / "rows.jsonl").read_bytes())
    (run / "rows.jsonl").unlink()
    (run / "rows.jsonl.gz").write_bytes(packed)
    assert run_script(script, folder) == 0
    text = (folder / "docs/results.md").read_text()
    assert "webp | vcframe | -20.0 % (-20.0 .. -20.0) | -20.0 % (-20.0 .. -20.0) |" in text
    assert "`vcframe bench run made --out made`, 24 files, 0 failures" in text
    picture = folder / "docs/made.svg"
    assert "vcframe webp" in picture.read_text()
    assert run_script(script, folder, "--check") == 0
    picture.write_text(picture.read_text().replace(script.digest(script.read_run(run)), "another"))
    assert run_script(script, folder, "--check") == 1
    (run / "rows.jsonl.gz").write_bytes(packed[:-9])
    assert run_script(script, folder) == 2


def test_check_tells_a_stale_table_and_changes_nothing(
    script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "README.md").read_text()
    assert run_script(script, folder, "--check") == 1
    assert "README.md is stale" in capsys.readouterr().err
    assert (folder / "README.md").read_text() == before
    run_script(script, folder)
    assert run_script(script, folder, "--check") == 0
    (folder / WEBP).write_text(json.dumps(result(model_id="12345678")))
    assert run_script(script, folder, "--check") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (WEBP, "{", r"kodak-webp\.json: not JSON"),
        (WEBP, "[]", r"kodak-webp\.json: not a vcframe-evaluation of version 4"),
        (WEBP, json.dumps(result(schema_version=1)), "not a vcframe-evaluation of version 4"),
        ("README.md", "no markers", r"README\.md needs a line <!-- results -->"),
    ],
)
def test_what_is_no_result_or_readme_is_named(
    script: ModuleType,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    message: str,
) -> None:
    import re

    (folder / name).write_text(content)
    assert run_script(script, folder) == 2
    assert re.search(message, capsys.readouterr().err)


def test_no_results_is_an_error(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    assert run_script(script, tmp_path) == 2
    assert "no kodak-*.json" in capsys.readouterr().err


def test_the_committed_table_is_up_to_date(script: ModuleType) -> None:
    if not list((script.ROOT / "benchmarks/results").glob("kodak-*.json")):
        pytest.skip("no Kodak results are committed yet")
    assert script.main(["--check"]) == 0
