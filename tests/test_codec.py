from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from conftest import ToyCodec

from vcframe import Codec, CodecError, Image, PluginError, QualityScale, Traits, UsageError, VcframeError
from vcframe.codec import ImageError

RISING = QualityScale(1, 95, 1, (1, 5, 15, 40, 95), "JPEG quality")
FALLING = QualityScale(12, 51, 1, (51, 44, 37, 30, 12), "quantisation parameter")
TENTHS = QualityScale(15, 50, 0.1, (15, 17.9, 50), "dB")
FRACTIONAL = QualityScale(0.5, 4.0, 0.25, (0.5, 1.0, 2.0, 4.0), "step")


def test_error_tree_lets_users_catch_value_errors() -> None:
    for error in (UsageError, ImageError, CodecError):
        assert issubclass(error, VcframeError)
        assert issubclass(error, ValueError)
    assert issubclass(PluginError, VcframeError)
    assert not issubclass(PluginError, ValueError)


class TestQualityScale:
    @pytest.mark.parametrize(
        ("scale", "quality", "expected"),
        [
            (RISING, 7.4, 7),
            (RISING, 7.6, 8),
            (FALLING, 12.4, 12),
            (FRACTIONAL, 1.1, 1.0),
            (TENTHS, 17.92, 17.9),
        ],
    )
    def test_check_rounds_to_the_step(self, scale: QualityScale, quality: float, expected: float) -> None:
        assert scale.check(quality) == expected

    @pytest.mark.parametrize("quality", [0, 0.999, 95.01, 96, -1, float("nan"), float("inf"), -float("inf")])
    def test_check_refuses_what_is_outside_and_names_the_range(self, quality: float) -> None:
        with pytest.raises(UsageError, match=r"outside 1\.\.95 \(JPEG quality\)"):
            RISING.check(quality)

    def test_unit_is_piecewise_linear_through_the_sweep(self) -> None:
        assert [RISING.unit(q) for q in RISING.sweep] == [0, 0.25, 0.5, 0.75, 1]
        assert RISING.unit(10) == pytest.approx(0.25 + 0.25 / 2)
        assert [FALLING.unit(q) for q in FALLING.sweep] == [0, 0.25, 0.5, 0.75, 1]
        assert FALLING.unit(21) == pytest.approx(0.75 + 0.25 / 2)

    @pytest.mark.parametrize("scale", [RISING, FALLING, FRACTIONAL, TENTHS])
    def test_native_inverts_unit_on_every_step(self, scale: QualityScale) -> None:
        for quality in scale.steps():
            assert scale.native(scale.unit(quality)) == quality

    @pytest.mark.parametrize("scale", [RISING, FALLING, FRACTIONAL, TENTHS])
    def test_steps_run_from_worst_to_best(self, scale: QualityScale) -> None:
        steps = scale.steps()
        units = [scale.unit(quality) for quality in steps]
        assert (units[0], units[-1]) == (0, 1)
        assert all(a < b for a, b in itertools.pairwise(units))
        assert len(steps) == round((scale.maximum - scale.minimum) / scale.step) + 1

    def test_direction_follows_the_sweep(self) -> None:
        assert RISING.higher_is_better
        assert not FALLING.higher_is_better
        assert (FALLING.native(0), FALLING.native(1)) == (51, 12)

    @pytest.mark.parametrize("unit", [-0.001, 1.001, float("nan")])
    def test_native_refuses_units_outside_0_to_1(self, unit: float) -> None:
        with pytest.raises(UsageError, match=r"outside 0\.\.1"):
            RISING.native(unit)

    @pytest.mark.parametrize(
        ("minimum", "maximum", "step", "sweep"),
        [
            (1, 9, 0, (1, 5, 9)),
            (9, 1, 1, (9, 5, 1)),
            (1, 9, 1, (1, 9)),
            (1, 9, 1, (1, 5, 5, 9)),
            (1, 9, 1, (1, 7, 5, 9)),
            (1, 9, 1, (2, 5, 9)),
            (1, 9, 1, (1, 5, 8)),
            (1, 9, 1, (1, 5.5, 9)),
        ],
    )
    def test_a_scale_that_contradicts_itself_cannot_be_made(
        self, minimum: float, maximum: float, step: float, sweep: tuple[float, ...]
    ) -> None:
        with pytest.raises(PluginError, match="quality"):
            QualityScale(minimum, maximum, step, sweep, "broken")


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "field", "expected"),
        [
            ({"level": "9"}, "level", 9),
            ({"level": 9.0}, "level", 9),
            ({"strategy": "fast"}, "strategy", "fast"),
            ({"filtered": "True"}, "filtered", True),
            ({"filtered": False}, "filtered", False),
            ({"gain": "0.5"}, "gain", 0.5),
            ({"gain": 2}, "gain", 2.0),
            ({"window": "15"}, "window", 15),
        ],
    )
    def test_strings_are_parsed_as_typed_on_a_command_line(
        self, given: dict[str, Any], field: str, expected: Any
    ) -> None:
        value = getattr(ToyCodec(**given).options, field)
        assert value == expected
        assert type(value) is type(expected)

    def test_defaults_are_the_dataclass_s(self) -> None:
        assert ToyCodec().options == ToyCodec.Options()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"level": "nine"}, r"level='nine' is not of type int"),
            ({"level": 9.5}, r"level=9.5 is not of type int"),
            ({"level": True}, r"level=True is not of type int"),
            ({"level": None}, r"level=None is not of type int"),
            ({"strategy": "slow"}, r"strategy='slow' is not one of fast, best"),
            ({"filtered": "yes"}, r"filtered='yes' is not of type bool"),
            ({"filtered": 1}, r"filtered=1 is not of type bool"),
            ({"gain": "much"}, r"gain='much' is not of type float"),
            ({"levle": 1}, r"toy has no option 'levle'; options: level, strategy, filtered, gain, window"),
        ],
    )
    def test_a_bad_option_is_named_with_the_good_ones(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            ToyCodec(**given)

    def test_an_optional_option_takes_none(self) -> None:
        assert ToyCodec(window=None) == ToyCodec()
        assert ToyCodec(window=9) != ToyCodec()


class TestConfiguration:
    def test_survives_json_and_rebuilds_an_equal_codec(self) -> None:
        codec = ToyCodec(level=3, strategy="fast", filtered=True, gain=0.25, window=9)
        config = json.loads(json.dumps(codec.config()))
        assert config["codec"] == "toy"
        assert ToyCodec.from_config(config) == codec
        assert hash(ToyCodec.from_config(config)) == hash(codec)

    def test_names_every_option_with_its_value(self) -> None:
        assert ToyCodec().config()["options"] == {
            "level": 6,
            "strategy": "best",
            "filtered": False,
            "gain": 1.0,
            "window": None,
        }

    def test_of_another_codec_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"for codec 'jpeg', not 'toy'"):
            ToyCodec.from_config({"codec": "jpeg", "options": {}})

    @pytest.mark.parametrize("name", ["max_pixels", "self", "cls", "level "])
    def test_what_is_no_option_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"toy has no option '{name}'; options: level"):
            ToyCodec.from_config({"codec": "toy", "options": {name: "1"}})

    def test_codecs_differ_by_options_and_class_but_not_by_limit(self) -> None:
        class Other(ToyCodec):
            pass

        assert ToyCodec(level=1) != ToyCodec(level=2)
        assert ToyCodec() != Other()
        assert ToyCodec(max_pixels=5) == ToyCodec()
        assert ToyCodec(max_pixels=5).config() == ToyCodec().config()
        assert "level=6" in repr(ToyCodec())


class TestPicturesAtTheDoor:
    @pytest.mark.parametrize("shape", [(1, 1), (5, 7), (5, 7, 3), (4096, 1, 3)])
    def test_grey_and_colour_pass_unchanged(self, toy: ToyCodec, shape: tuple[int, ...]) -> None:
        image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        assert np.array_equal(toy.check_image(image), image)

    @pytest.mark.parametrize("cut", [np.s_[::2, ::-1], np.s_[:, :1], np.s_[:1, ::3]])
    def test_views_get_the_strides_that_libraries_expect(self, toy: ToyCodec, photo: Image, cut: Any) -> None:
        checked = toy.check_image(photo[cut])
        assert checked.strides == (checked.shape[1] * 3, 3, 1)
        assert np.array_equal(checked, photo[cut])

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            ([[1, 2]], "uint8 array, got list"),
            (np.zeros((4, 4), np.float32), "uint8 array, got float32"),
            (np.zeros((4, 4, 3), np.uint16), "uint8 array, got uint16"),
            (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\)"),
            (np.zeros((4, 4, 1), np.uint8), r"got \(4, 4, 1\)"),
            (np.zeros(4, np.uint8), r"got \(4,\)"),
            (np.zeros((0, 4), np.uint8), r"sides must be 1\.\.4096 pixels, got 4x0"),
            (np.zeros((2, 4097), np.uint8), r"sides must be 1\.\.4096 pixels, got 4097x2"),
        ],
    )
    def test_anything_else_is_refused(self, toy: ToyCodec, image: Any, message: str) -> None:
        with pytest.raises(CodecError, match=f"toy: .*{message}"):
            toy.check_image(image)

    def test_grey_is_refused_where_the_traits_say_so(self) -> None:
        class Colour(ToyCodec):
            traits = Traits(grey=False, min_side=2)

        with pytest.raises(CodecError, match=r"shape \(H, W, 3\), got \(4, 4\)"):
            Colour().check_image(np.zeros((4, 4), np.uint8))
        with pytest.raises(CodecError, match=r"sides must be 2\.\."):
            Colour().check_image(np.zeros((1, 4, 3), np.uint8))


class TestStreamsAtTheDoor:
    def test_the_header_is_returned(self, toy: ToyCodec, photo: Image) -> None:
        assert toy.check_stream(toy.encode(photo, 4)) == (200, 312, 3)

    def test_empty_input_is_refused(self, toy: ToyCodec) -> None:
        with pytest.raises(CodecError, match="toy: empty input"):
            toy.decode(b"")

    def test_a_header_that_claims_too_many_pixels_is_refused_before_decoding(self, photo: Image) -> None:
        data = ToyCodec().encode(photo, 4)
        assert ToyCodec(max_pixels=200 * 312).decode(data).shape == photo.shape
        with pytest.raises(CodecError, match=r"claims 312x200 pixels, outside 1\.\.62399 in all"):
            ToyCodec(max_pixels=200 * 312 - 1).decode(data)

    def test_a_header_without_pixels_is_refused(self, toy: ToyCodec, photo: Image) -> None:
        data = bytearray(toy.encode(photo, 4))
        data[3:7] = bytes(4)
        with pytest.raises(CodecError, match="claims 312x0 pixels"):
            toy.decode(bytes(data))


class TestRoundtrip:
    def test_returns_the_decoded_picture_and_the_length_of_the_file(
        self, toy: ToyCodec, photo: Image
    ) -> None:
        decoded, num_bytes = toy.roundtrip(photo, 2)
        assert num_bytes == len(toy.encode(photo, 2))
        assert np.array_equal(decoded, photo & 0b1100_0000)

    def test_a_codec_that_changes_the_size_is_caught(self, photo: Image) -> None:
        class Cropping(ToyCodec):
            def decode(self, data: bytes) -> Image:
                return super().decode(data)[:-1]

        with pytest.raises(CodecError, match=r"\(200, 312, 3\) went in and \(199, 312, 3\) came out"):
            Cropping().roundtrip(photo, 2)

    def test_the_optional_parts_have_defaults(self, toy: ToyCodec) -> None:
        with pytest.raises(NotImplementedError):
            toy.embed(b"data", b"payload")
        assert toy.extract(b"data") is None
        assert toy.unavailable() is None


def test_a_codec_that_implements_nothing_cannot_be_made() -> None:
    class Empty(Codec):
        name = "empty"

    with pytest.raises(TypeError, match="abstract"):
        Empty()  # type: ignore[abstract]
