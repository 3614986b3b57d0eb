"""The rules of the house that no type checker knows: who may import what, and what starting up may load."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import vcframe

ROOT = Path(vcframe.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CODEC_NAMES = set(PROJECT["project"]["entry-points"]["vcframe"]) - {"suites"}

ROOMS = (
    "codec",
    "metrics",
    "memory",
    "hookspecs",
    "registry",
    "testing",
    "images",
    "dead_leaves",
    "stream",
    "networks",
    "model",
    "virtual",
    "learning",
    "ways",
    "search",
    "coder",
    "api",
    "pillow",
    "bench",
    "demo",
    "cli",
)
"""Ground floor first: a module imports only from its own room and from those before it."""

BELOW = {room: set(ROOMS[: i + 1]) for i, room in enumerate(ROOMS)} | {
    "testing": {"testing", "codec", "registry"},
    "__init__": {"codec", "metrics", "hookspecs", "api"},
    "__main__": {"cli"},
    "models": set(),
}
TORCH_FREE = ("codec", "hookspecs", "registry", "metrics", "testing")
HEAVY = {"torch", "PIL", "cv2", "imagecodecs", "av", "scipy", "skimage", "pandas", "matplotlib", "sympy"}
"""What start-up must not load; numpy is cheap enough."""
CODEC_LIBRARIES = {"PIL", "cv2", "imagecodecs", "av"}
"""What a backend may load to find out whether it can run here."""


def imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Every `(module, name)` that is imported at any level of a file; name None for a plain `import`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias.name) for alias in node.names)


def room_of(module: str, name: str | None) -> str | None:
    """The room that an import enters; None for other projects and for the package's own exports."""
    parts = module.split(".")
    if parts[0] != "vcframe":
        return None
    if len(parts) > 1:
        return parts[1]
    return None if name is None or name in vcframe.__all__ or name == "__version__" else name


def wrong_edges(room: str, source: str) -> list[str]:
    """What a file of `room` imports against the rules."""
    faults = []
    for module, name in imports(ast.parse(source)):
        package, entered = module.split(".")[0], room_of(module, name)
        if module.startswith("."):
            faults.append(f"relative import {module}")
        if entered is not None and entered not in BELOW[room]:
            faults.append(f"{room} imports {entered}")
        if package in ("benchmarks", "tests", "vcframe_plugins", "plugins"):
            faults.append(f"{room} imports {package}")
        if package == "torch" and room in TORCH_FREE:
            faults.append(f"{room} imports torch")
    return faults


def wrong_plugin_imports(source: str) -> list[str]:
    """What a plugin imports besides the exported names, or at module level besides cheap modules.

    A package of plugins may share a private module of its own: `from ._shared import ...`.
    """
    tree = ast.parse(source)
    faults = []
    for module, name in imports(tree):
        package = module.split(".")[0]
        if module.startswith("._"):
            continue
        if package in ("", "benchmarks", "tests", "vcframe_plugins"):
            faults.append(f"imports {module}")
        if package == "vcframe" and (module != "vcframe" or name not in vcframe.__all__):
            faults.append(f"imports {module} {name}")
    for node in tree.body:
        for module, _ in imports(node) if isinstance(node, ast.Import | ast.ImportFrom) else ():
            package = module.split(".")[0]
            if package not in {"", *sys.stdlib_module_names, "numpy", "vcframe"}:
                faults.append(f"imports {package} at module level")
    return faults


def decisions_by_name(source: str) -> list[str]:
    """Comparisons with a codec's name, matches on one, tables keyed by one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        operands: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        elif isinstance(node, ast.Dict):
            operands = list(node.keys)
        for operand in operands:
            inner = operand.elts if isinstance(operand, ast.Tuple | ast.List | ast.Set) else [operand]
            found += [
                f"line {node.lineno}: {leaf.value!r}"
                for leaf in inner
                if isinstance(leaf, ast.Constant) and leaf.value in CODEC_NAMES
            ]
    return found


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"no Python files in {ROOT / folder}"
    return found


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", files("vcframe"), ids=relative)
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(ROOT / "vcframe").parts[0].removesuffix(".py")
    assert room in BELOW, f"{relative(path)} is in no room: give it a place in ROOMS"
    assert wrong_edges(room, path.read_text()) == []


@pytest.mark.parametrize("path", files("vcframe"), ids=relative)
def test_nothing_is_decided_by_a_codec_s_name(path: Path) -> None:
    assert decisions_by_name(path.read_text()) == []


@pytest.mark.parametrize("path", [f for f in files("plugins") if "tests" not in f.parts[-2:]], ids=relative)
def test_plugins_import_what_a_stranger_may(path: Path) -> None:
    assert wrong_plugin_imports(path.read_text()) == []


@pytest.mark.parametrize("path", [*files("vcframe"), *files("plugins"), *files("tests")], ids=relative)
def test_files_stay_under_500_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


def test_every_package_is_in_the_wheel() -> None:
    packages = {relative(path.parent).replace("/", ".") for path in (ROOT / "vcframe").rglob("__init__.py")}
    assert packages | {"vcframe_plugins", "vcframe_suites"} == set(PROJECT["tool"]["setuptools"]["packages"])


class TestTheChecksThemselves:
    @pytest.mark.parametrize(
        ("room", "source", "fault"),
        [
            ("codec", "from vcframe.registry import Registry", "codec imports registry"),
            ("registry", "from vcframe import coder", "registry imports coder"),
            ("model", "def f():\n    import vcframe.learning.loop", "model imports learning"),
            ("testing", "from vcframe.images import read_image", "testing imports images"),
            ("metrics", "def f():\n    from torch import nn", "metrics imports torch"),
            ("bench", "import benchmarks.suites", "bench imports benchmarks"),
            ("coder", "from vcframe_plugins.jpeg import JpegCodec", "coder imports vcframe_plugins"),
            ("coder", "from .cli import main", "relative import .cli"),
        ],
    )
    def test_a_wrong_edge_is_seen(self, room: str, source: str, fault: str) -> None:
        assert wrong_edges(room, source) == [fault]

    def test_right_edges_pass(self) -> None:
        source = "import torch\nfrom vcframe import __version__, Codec\nfrom vcframe.model import Model"
        assert wrong_edges("learning", source) == []

    @pytest.mark.parametrize(
        "source",
        [
            "from vcframe.codec import Codec",
            "from vcframe import registry",
            "import vcframe.images",
            "import vcframe",
            "from vcframe_plugins.jpeg import JpegCodec",
            "from .jpeg import JpegCodec",
            "from . import jpeg",
            "import imagecodecs",
            "from PIL import Image",
        ],
    )
    def test_a_plugin_s_back_door_is_seen(self, source: str) -> None:
        assert wrong_plugin_imports(source) != []
        assert wrong_plugin_imports("import io\nfrom vcframe import Codec\ndef f():\n    import av") == []
        assert wrong_plugin_imports("from ._boxes import append_box") == []

    @pytest.mark.parametrize(
        "source",
        [
            "if codec.name == 'jpeg': pass",
            "if 'webp' != name: pass",
            "if name in ('png', 'hevc'): pass",
            "match name:\n    case 'jpeg2000': pass",
            "table = {'jpeg': 1}",
        ],
    )
    def test_a_decision_by_name_is_seen(self, source: str) -> None:
        assert len(decisions_by_name(source)) == 1
        assert decisions_by_name("demo('webp')\nif x == 'png': pass") == []


def loaded_by(code: str) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    """Heavy packages that a fresh interpreter holds after `code`, and the finished process."""
    report = f"import sys; print('LOADED', *({HEAVY!r} & set(sys.modules)))"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert process.returncode == 0, process.stderr
    return set(process.stdout.splitlines()[-1].split()[1:]), process


def command(*arguments: str) -> str:
    lines = [
        "import sys",
        f"sys.argv = ['vcframe', *{list(arguments)!r}]",
        "from vcframe.cli import main",
        "try:",
        "    main()",
        "except SystemExit as end:",
        "    assert not end.code, end.code",
    ]
    return "\n".join(lines)


class TestStartingUp:
    def test_the_check_sees_a_heavy_import(self) -> None:
        assert "PIL" in loaded_by("import PIL.Image")[0]

    @pytest.mark.parametrize("room", [r for r in TORCH_FREE if r in ROOMS])
    def test_the_light_rooms_load_nothing_heavy(self, room: str) -> None:
        assert loaded_by(f"import vcframe.{room}")[0] == set()

    def test_finding_and_listing_plugins_loads_no_library(self) -> None:
        code = "from vcframe.registry import Registry\nassert len(Registry.load().codecs) >= 4"
        assert loaded_by(code)[0] == set()

    def test_help_loads_nothing_heavy(self) -> None:
        heavy, process = loaded_by(command("--help"))
        assert "compress" in process.stdout
        assert heavy == set()

    @pytest.mark.parametrize("arguments", [("codecs",), ("codecs", "--json")])
    def test_listing_codecs_does_not_load_torch(self, arguments: tuple[str, ...]) -> None:
        heavy, process = loaded_by(command(*arguments))
        assert all(name in process.stdout for name in CODEC_NAMES)
        assert not heavy - CODEC_LIBRARIES

    def test_listing_plugins_loads_nothing_heavy(self) -> None:
        heavy, process = loaded_by(command("plugins"))
        assert "vcframe_plugins" in process.stdout or "jpeg2000" in process.stdout
        assert heavy == set()

    def test_restoring_loads_no_more_than_pytorch_and_the_codecs(self, tmp_path: Path) -> None:
        """Neither the libraries of training nor PyTorch's compiler, which brings sympy: seconds each."""
        golden = ROOT / "tests/golden"
        files = str(golden / "adapted.jpg"), str(tmp_path / "restored.png")
        heavy, _ = loaded_by(command("decompress", *files, "--model", str(golden / "adapted.safetensors")))
        assert heavy <= {"torch", *CODEC_LIBRARIES}
