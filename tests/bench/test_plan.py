"""The plan: every task before any runs, and what is left out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import skimage.data
from benchmark_suites import extended, suite_file
from command_line import fresh_model
from plugin_sources import plugin

from vcframe import UsageError
from vcframe.bench.plan import Plan, make_plan
from vcframe.bench.rows import Task
from vcframe.registry import Registry

__all__ = ["suite_file"]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def systems(plan: Plan) -> set[tuple[str, str, int | None]]:
    return {(task.codec, task.method, task.scale) for task in plan.tasks}


def qualities(plan: Plan, codec: str, method: str, scale: int | None = None) -> list[float]:
    wanted = (codec, method, scale, "mine/a.png")
    return [t.quality for t in plan.tasks if (t.codec, t.method, t.scale, t.image) == wanted]


class TestTasks:
    def test_every_picture_codec_quality_and_repeat_is_a_task(
        self, suite_file: Path, registry: Registry
    ) -> None:
        suite = extended(
            suite_file,
            'methods = ["plain"]\nrepeats = 2\n'
            "[codecs.webp]\nqualities = [30, 10]\n"
            '[codecs.jpeg-444]\ncodec = "jpeg"\noptions = { subsampling = "4:4:4" }\nqualities = [7]\n',
        )
        plan = make_plan(suite, registry)
        assert len(plan.tasks) == len({task.key for task in plan.tasks}) == 2 * 3 * 2
        config = registry.codec("jpeg", subsampling="4:4:4").config()
        sha256 = hashlib.sha256((suite_file.parent / "pictures" / "b.png").read_bytes()).hexdigest()
        assert Task("mine/b.png", sha256, "jpeg-444", config, "plain", None, 7.0, 1) in plan.tasks
        assert qualities(plan, "webp", "plain") == [10, 10, 30, 30]
        assert plan.codec_versions == {
            name: registry.codec(c).version() for name, c in [("webp", "webp"), ("jpeg-444", "jpeg")]
        }

    def test_a_suite_without_codecs_takes_every_installed_one(
        self, suite_file: Path, registry: Registry
    ) -> None:
        plan = make_plan(extended(suite_file, 'methods = ["plain"]\nqualities = [0.0, 1.0]'), registry)
        assert {codec for codec, _, _ in systems(plan)} == set(registry.codecs)
        # From the worst to the best end of the codec's own scale, whichever way its numbers run.
        assert qualities(plan, "jpeg", "plain") == [1, 95]
        assert qualities(plan, "hevc", "plain") == [51, 0]

    def test_the_direction_of_every_metric_is_known(self, suite_file: Path, tmp_path: Path) -> None:
        body = """
        @hookimpl
        def vcframe_metrics():
            directions = {"up": "higher", "down": "lower"}
            return [Metric(name, "", better, lambda a, b: 0.0) for name, better in directions.items()]
        """
        (tmp_path / "mine.py").write_text(plugin(body=body))
        suite = extended(
            suite_file,
            'methods = ["plain"]\nmetrics = ["psnr", "up", "down"]\n[codecs.webp]\nqualities = [30]\n',
        )
        plan = make_plan(suite, Registry.load(plugin_files=[tmp_path / "mine.py"]))
        assert (plan.metrics, plan.lower_is_better) == (("psnr", "up", "down"), ("down",))

    def test_a_count_of_qualities_is_spread_over_the_unit_scale(
        self, suite_file: Path, registry: Registry
    ) -> None:
        plan = make_plan(
            extended(suite_file, 'methods = ["plain"]\n[codecs.webp]\nqualities = 4\n'), registry
        )
        scale = registry.codec("webp").quality_scale
        assert qualities(plan, "webp", "plain") == [0, scale.native(1 / 3), scale.native(2 / 3), 100]

    def test_pictures_of_a_known_set_are_those_of_the_suite(
        self, suite_file: Path, registry: Registry
    ) -> None:
        suite_file.write_text('title = "t"\nimages = [{ set = "embedded", files = ["astronaut.png"] }]\n')
        plan = make_plan(
            extended(suite_file, 'methods = ["plain"]\n[codecs.jpeg]\nqualities = [5]\n'), registry
        )
        (task,) = plan.tasks
        file = Path(skimage.data.__file__).parent / "astronaut.png"
        assert (task.image, task.image_sha256) == (
            "embedded/astronaut.png",
            hashlib.sha256(file.read_bytes()).hexdigest(),
        )


@pytest.mark.usefixtures("no_shipped_models")
class TestMethods:
    def test_a_model_brings_its_scales_and_its_options(
        self, suite_file: Path, registry: Registry, tmp_path: Path
    ) -> None:
        model = fresh_model("jpeg", dead_zone=0.7)
        model.save(tmp_path / "m.safetensors")
        suite = extended(
            suite_file,
            'methods = ["plain", "post", "vcframe"]\n'
            "[codecs.jpeg]\nqualities = [5]\nhalf_qualities = [20, 40]\noptions.progressive = 'always'\n",
        )
        plan = make_plan(suite, registry, references=[str(tmp_path / "m.safetensors")])
        # The codec alone with the model's options is a part of what compress chooses from.
        assert systems(plan) == {
            ("jpeg", "plain", None),
            ("jpeg", "post", 2),
            ("jpeg", "vcframe", None),
            ("jpeg", "vcframe", 2),
        }
        assert qualities(plan, "jpeg", "plain") == [5]
        assert qualities(plan, "jpeg", "vcframe", 2) == [20, 40]
        options = {t.method: t.config["options"] for t in plan.tasks}
        assert [options[m]["dead_zone"] for m in ("plain", "post", "vcframe")] == [0.5, 0.7, 0.7]
        assert all(o["progressive"] == "always" for o in options.values())
        assert {name: about["id"] for name, about in plan.models.items()} == {
            "jpeg/post": model.id,
            "jpeg/vcframe": model.id,
        }

    def test_what_has_no_model_is_left_out_with_the_reason(
        self, suite_file: Path, registry: Registry
    ) -> None:
        suite = extended(
            suite_file, 'methods = ["plain", "post", "vcframe", "paper"]\n[codecs.webp]\n[codecs.bpg]\n'
        )
        plan = make_plan(suite, registry)
        assert systems(plan) == {("webp", "plain", None)}
        post, paper, bpg = plan.left_out
        assert post.startswith("webp, post and vcframe: no model for codec webp is installed; make one: ")
        assert paper.startswith("webp, paper: no model of schedule paper for webp is installed; make one ")
        assert bpg.startswith("bpg: unknown codec 'bpg'")

    def test_a_model_of_one_quality_is_measured_at_it(
        self, suite_file: Path, registry: Registry, tmp_path: Path
    ) -> None:
        for seed, quality in enumerate((5.0, 10.0)):
            model = fresh_model("jpeg", seed=seed)
            model.card.training[2]["quality"] = quality
            model.save(tmp_path / f"{quality:g}.safetensors")
        references = [str(path) for path in sorted(tmp_path.glob("*.safetensors"))]
        suite = extended(suite_file, 'methods = ["paper"]\n[codecs.jpeg]\nqualities = [5, 10, 20]\n')
        plan = make_plan(suite, registry, references=references)
        assert sorted(qualities(plan, "jpeg", "paper", 2)) == [5, 10]
        assert sorted(plan.models) == ["jpeg/paper@10", "jpeg/paper@5"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ('methods = ["plane"]', r"unknown method 'plane'; did you mean 'plain'"),
            ('metrics = ["psrn"]', r"unknown metric 'psrn'; did you mean 'psnr'"),
            ("[codecs.webp]\nqualities = [101]", r"codecs.webp: quality 101 is outside 0\.\.100"),
            ("[codecs.bpg]", r"nothing can run here; bpg: unknown codec"),
        ],
    )
    def test_what_makes_no_plan(self, suite_file: Path, registry: Registry, text: str, fault: str) -> None:
        with pytest.raises(UsageError, match=f"^suite own: {fault}"):
            make_plan(extended(suite_file, text), registry)

    def test_another_picture_in_the_place_of_one(self, suite_file: Path, registry: Registry) -> None:
        pictures = suite_file.parent / "pictures"
        (pictures / "a.png").write_bytes((pictures / "b.png").read_bytes())
        with pytest.raises(UsageError, match=r"a\.png"):
            make_plan(extended(suite_file, ""), registry)


class TestShards:
    def test_shards_are_a_partition_in_random_order(self, suite_file: Path, registry: Registry) -> None:
        suite = extended(suite_file, 'methods = ["plain"]\n[codecs.jpeg]\nqualities = 12\n[codecs.webp]\n')
        plan = make_plan(suite, registry)
        whole = plan.shard(1, 1)
        parts = [plan.shard(number, 3) for number in (1, 2, 3)]
        assert sorted(t.key for part in parts for t in part) == sorted(t.key for t in plan.tasks)
        assert {len(part) for part in parts} == {16}
        assert whole == make_plan(suite, registry).shard(1, 1), "the same whenever the run is continued"
        in_order = [t.codec for t in plan.tasks]
        assert [t.codec for t in whole] not in (in_order, in_order[::-1])
        assert {t.codec for t in whole[:16]} == {"jpeg", "webp"}
