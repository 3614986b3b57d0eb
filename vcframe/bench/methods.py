"""The methods of a suite: what each of them puts around a codec.

    plain     nothing: the codec alone
    vcframe   the networks of a model, at each of its scales
    post      plain resampling in front, the model's post-processing network behind
    paper     models of schedule `paper`, each at the one quality that it knows

and those that plugins bring through the hook `vcframe_methods`.

A model has the codec's options with which it was trained. Where these are others than the plain codec's, the
codec alone with the model's options is a part of what `compress` chooses from, and so of `vcframe`: the
system without a scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcframe.bench.suite import SuiteCodec
from vcframe.codec import Codec, Image, PluginError, UsageError
from vcframe.registry import Registry

if TYPE_CHECKING:
    from vcframe.model import Card, Model


@dataclass(frozen=True)
class System:
    """A codec with what stands around it."""

    codec: Codec
    model: Any = None
    """A `Model`, or what a plugin has in its place; None for the codec alone."""
    scale: int | None = None

    @property
    def quality(self) -> float | None:
        """The one quality that the model knows; None where it is every one."""
        return None if self._card is None else self._card.quality

    def about(self) -> dict[str, Any]:
        """Id of the model, and its card if it has one."""
        card = None if self._card is None else self._card.model_dump(mode="json")
        return {"id": self.model.id, "card": card}

    @property
    def _card(self) -> Card | None:
        return getattr(self.model, "card", None)


@dataclass(frozen=True)
class Workshop:
    """What methods make systems from."""

    registry: Registry
    luma: bool
    """Whether the pictures are grey; a colour model takes these too."""
    named: Sequence[Model] = ()
    """Models that the user named; each is for the codec on its card."""

    @classmethod
    def open(cls, registry: Registry, luma: bool, references: Sequence[str]) -> Workshop:
        """With the models of these files or ids; raises `ModelError` where one is missing."""
        if not references:
            return cls(registry, luma)
        from vcframe.model import find_model

        return cls(registry, luma, [find_model(reference, None) for reference in references])

    def systems(self, method: str, label: str, entry: SuiteCodec) -> list[System]:
        """What a method makes of a codec of the suite.

        Raises `UsageError`, `ModelError` or `PluginError` with the reason where it makes nothing.
        """
        return methods(self.registry)[method](self, self.codec(label, entry), entry)

    def codec(self, label: str, entry: SuiteCodec) -> Codec:
        """The plain codec of a suite's entry."""
        return self.registry.codec_from_config({"codec": entry.codec or label, "options": entry.options})

    def around(self, model: Model, entry: SuiteCodec) -> list[System]:
        """The model's scales around the codec as the model has it, but for options that the suite states."""
        own = model.card.codec
        codec = self.registry.codec_from_config({**own, "options": own["options"] | entry.options})
        return [System(codec, model, scale) for scale in model.card.scales]

    def general_model(self, codec: Codec) -> Model:
        """The model for every quality: one that the user named, or the one that `compress` would take."""
        from vcframe.model import find_model

        named = [model for model in self._named(codec) if model.card.quality is None]
        model = named[0] if named else find_model(None, codec)
        if model.card.quality is not None or not self._fits(model):
            kind = "of luma only" if model.card.channels == 1 else "of one quality"
            raise UsageError(f"the model {model.id} for {codec.name} is {kind}")
        return model

    def paper_models(self, codec: Codec) -> list[Model]:
        """The models of one quality each, those that the user named first."""
        from vcframe.model import Model, list_models

        installed = [file.path for file in list_models(codec.name) if file.card.quality is not None]
        models = [*self._named(codec), *map(Model.load, installed)]
        models = [model for model in models if model.card.quality is not None and self._fits(model)]
        if not models:
            raise UsageError(
                f"no model of schedule paper for {codec.name} is installed; make one for each quality: "
                f"vcframe train --schedule paper --codec {codec.name}"
            )
        return models

    def _named(self, codec: Codec) -> list[Model]:
        return [model for model in self.named if model.card.codec_name == codec.name]

    def _fits(self, model: Model) -> bool:
        return self.luma or model.card.channels == 3


def _plain(shop: Workshop, codec: Codec, entry: SuiteCodec) -> list[System]:
    return [System(codec)]


def _vcframe(shop: Workshop, codec: Codec, entry: SuiteCodec) -> list[System]:
    systems = shop.around(shop.general_model(codec), entry)
    own = systems[0].codec.unaided()
    return systems if own == codec else [System(own), *systems]


def _post(shop: Workshop, codec: Codec, entry: SuiteCodec) -> list[System]:
    return shop.around(_plainly_described(shop.general_model(codec)), entry)


def _paper(shop: Workshop, codec: Codec, entry: SuiteCodec) -> list[System]:
    return [system for model in shop.paper_models(codec) for system in shop.around(model, entry)]


Method = Callable[[Workshop, Codec, SuiteCodec], list[System]]
METHODS: Mapping[str, Method] = {"plain": _plain, "vcframe": _vcframe, "post": _post, "paper": _paper}
"""vcframe's own, by the name that suites have for them."""


def methods(registry: Registry) -> dict[str, Method]:
    """Every method by name; `PluginError` where a plugin's has the name of one of vcframe's own."""
    theirs = {method.name: _of_plugin(method) for method in registry.methods()}
    if taken := sorted(theirs.keys() & METHODS.keys()):
        raise PluginError(f"method name {taken[0]!r} of a plugin is vcframe's own; rename it")
    return {**METHODS, **theirs}


def _of_plugin(method: Any) -> Method:
    def systems(shop: Workshop, codec: Codec, entry: SuiteCodec) -> list[System]:
        networks = method.networks(codec)
        if networks is None:
            raise UsageError(f"it has nothing for {codec.name}")
        return [System(codec, networks, scale) for scale in networks.scales]

    return systems


def _plainly_described(model: Model) -> Model:
    """The model with plain resampling for its description network."""
    from vcframe.learning.phases import plain_describe
    from vcframe.model import Model

    class PlainlyDescribed(Model):
        def describe(self, image: Image, unit: float, scale: int) -> Image:
            return plain_describe(scale)(image, unit)

    return PlainlyDescribed(model.card, model.networks)
