"""The table of variants, and the frame around every architecture: input, normalisation, dropout, head."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kcls.errors import RecipeError, near
from kcls.models.layers import FirstOf
from kcls.models.roles import to_head
from kcls.options import check_options

Head = Callable[[Any, int], Any]
Channels = tuple[float, float, float]

HALF: Channels = (0.5, 0.5, 0.5)  # as mean and std: pixels of -1..1
BYTE: Channels = (1 / 255, 1 / 255, 1 / 255)  # as std: pixels keep the scale of 0..255
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)

# Keras walks a graph recursively, one Python frame or more a layer: resnet1202 needs more than the default 1000.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))


@dataclass(frozen=True)
class Variant:
    """One row: a builder with its options, and the frame it was published with.

    Attributes:
        name: of the variant.
        builder: image tensor -> features.
        options: keyword arguments of the builder.
        head: features (B, C), class count -> logits.
        image_size: height and width in pixels.
        num_classes: class count.
        drop_rate: fraction of the features that is dropped before the head in training.
        mean: what is taken off each channel of an image on a 0..1 scale, unless the user says otherwise.
        std: what each channel is divided by then.
        also: further published configurations: changes of image_size, num_classes or of numeric options.
        finetuned_as: for a network that only pre-trains, without classes: the variant that takes its trained part on.
    """

    name: str
    builder: Callable[..., Any]
    options: Mapping[str, Any]
    head: Head
    image_size: int
    num_classes: int
    drop_rate: float
    mean: Channels
    std: Channels
    also: tuple[Mapping[str, Any], ...]
    finetuned_as: str | None

    @property
    def free_options(self) -> dict[str, str]:
        """The builder's options that take a plain number, so that a recipe can set them, with their types."""
        parameters = inspect.signature(self.builder).parameters.values()
        kinds = (int, float, bool)
        return {p.name: p.annotation.__name__ for p in parameters if p.annotation in kinds}

    def option(self, name: str) -> Any:
        """The value of the builder's option in this row."""
        return self.options.get(name, inspect.signature(self.builder).parameters[name].default)


_VARIANTS: dict[str, Variant] = {}


def linear_head(x, num_classes: int, *, init: Callable[[], Any] = keras.initializers.GlorotUniform):
    """Features (B, C) -> logits (B, num_classes), computed in float32 under every precision policy.

    ``init`` makes the initialiser of the kernel; the bias starts at 0.
    """
    return layers.Dense(num_classes, kernel_initializer=init(), dtype="float32", name="head")(x)


def variants(
    *,
    image_size: int,
    num_classes: int,
    head: Head = linear_head,
    drop_rate: float = 0.0,
    mean: Channels = HALF,
    std: Channels = HALF,
    **rows: Mapping[str, Any],
):
    """Registers a builder under the name of each row; the row holds the builder's keyword arguments.

    The builder is a function from an image tensor (B, H, W, 3) to features (B, C), or to a tuple of features: those of
    the network and those of its auxiliary heads, which only train (see ``kcls.methods``). A row may also hold its
    own value of each argument below, and in ``also`` further published configurations. With ``finetuned_as``, the
    builder makes all of a network without classes, for pre-training.

    Args:
        image_size: height and width in pixels that the rows were published with.
        num_classes: class count that the rows were published with.
        head: features (B, C), class count -> logits.
        drop_rate: fraction of the features that is dropped before the head in training.
        mean: what is taken off each channel of an image on a 0..1 scale, unless the user says otherwise.
        std: what each channel is divided by then. Pixels of -1..1 suit most first weights; others need their own.
        **rows: variant name -> options of the builder.

    Raises:
        ValueError: a name is taken, or a row does not fit the builder's signature.
    """
    frame = dict(image_size=image_size, num_classes=num_classes, head=head, drop_rate=drop_rate, mean=mean, std=std)
    shared: dict[str, Any] = dict(frame, also=(), finetuned_as=None)

    def register(builder: Callable[..., Any]) -> Callable[..., Any]:
        for name, row in rows.items():
            if name in _VARIANTS:
                raise ValueError(f"variant {name!r} is registered twice")
            own = {key: row.get(key, value) for key, value in shared.items()}
            options = {key: value for key, value in row.items() if key not in shared}
            try:
                inspect.signature(builder).bind(None, **options)
            except TypeError as error:
                raise ValueError(f"variant {name!r} does not fit {builder.__name__}: {error}") from None
            _VARIANTS[name] = Variant(name, builder, options, **own)
        return builder

    return register


def list_models(contains: str = "") -> list[str]:
    """Names of all variants, in alphabetical order; only those that contain ``contains`` if given."""
    return sorted(name for name in _VARIANTS if contains in name)


def get_variant(name: str) -> Variant:
    """The row of that name.

    Raises:
        RecipeError: no such variant; the message gives the nearest name.
    """
    if name not in _VARIANTS:
        hint = near(name, _VARIANTS) or "; `kcls models` lists them"
        raise RecipeError(f"unknown model {name!r}{hint}")
    return _VARIANTS[name]


def create_model(
    name: str,
    *,
    num_classes: int,
    image_size: int | None = None,
    drop_rate: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **options: int | float | bool,
) -> keras.Model:
    """Builds a classifier: images (B, image_size, image_size, 3), RGB 0..255 -> logits (B, num_classes).

    The result is a flat functional model with its normalisation inside and random weights.

    Args:
        name: a variant, see ``list_models``.
        num_classes: number of classes; 0 returns the features (B, C) without dropout and head.
        image_size: height and width in pixels; None is the size the variant was published with.
        drop_rate: fraction of the features that is dropped in training before the head; None is as published.
        mean: mean of each channel of the data set on a 0..1 scale, None is the variant's own, 0.5 for most: pixels
            become (pixel / 255 - mean) / std.
        std: standard deviation of each channel on a 0..1 scale, None is the variant's own, 0.5 for most.
        **options: numeric options of the builder that replace those of the row.

    Raises:
        RecipeError: unknown name or option (the nearest is given), or a value out of range.
    """
    variant = get_variant(name)
    check_options(name, options, variant.free_options)
    image_size = variant.image_size if image_size is None else image_size
    drop_rate = variant.drop_rate if drop_rate is None else drop_rate
    if image_size < 1:
        raise RecipeError(f"image_size is in pixels, 1 or more, not {image_size}")
    if num_classes < 0:
        raise RecipeError(f"num_classes must be 0 (features) or more, not {num_classes}")
    if num_classes and variant.finetuned_as:
        raise RecipeError(f"model {name!r} only pre-trains, without classes; fine-tune {variant.finetuned_as!r}")
    if not 0 <= drop_rate < 1:
        raise RecipeError(f"drop_rate is a fraction from 0 to below 1, not {drop_rate}")

    image = keras.Input((image_size, image_size, 3), name="image")
    x = normalize(image, variant.mean if mean is None else mean, variant.std if std is None else std)
    try:
        x = variant.builder(x, **{**variant.options, **options})
    except ValueError as error:
        raise RecipeError(f"model {name!r} cannot be built for {image_size} px images: {error}") from error
    if variant.finetuned_as:
        return keras.Model(image, x, name=name)  # all outputs, for its training method
    x, *auxiliary = x if isinstance(x, tuple) else (x,)
    if num_classes:
        x = add_head(x, num_classes, variant.head, drop_rate, auxiliary)
    return keras.Model(image, x, name=name)


def add_head(x, num_classes: int, head: Head, drop_rate: float, auxiliary: Sequence[Any]):
    """Features (B, C) -> logits (B, num_classes); the layers are marked as the head, see ``kcls.models.roles``.

    ``auxiliary`` are the features of the auxiliary heads, whose logits stay in the graph for training.
    """
    x = to_head(x)
    if drop_rate:
        x = layers.Dropout(drop_rate, name="drop")(x)
    x = head(x, num_classes)
    if auxiliary:
        named = [(f"_auxiliary{i}", features) for i, features in enumerate(auxiliary, 1)]
        others = [layers.Dense(num_classes, dtype="float32", name=f"head{n}")(to_head(f, n)) for n, f in named]
        x = FirstOf(dtype="float32", name="logits")([x, *others])
    return x


def normalize(image, mean: Sequence[float], std: Sequence[float]):
    """RGB 0..255 -> (image / 255 - mean) / std, with mean and std of each channel on a 0..1 scale."""
    scale, offset = _scale_and_offset(mean, std)
    # In bfloat16 the rounded scale and offset would shift the pixels by up to two of their 256 values.
    return layers.Rescaling(scale, offset, dtype="float32", name="normalize")(image)


def rescale(model: keras.Model, mean: Sequence[float], std: Sequence[float]) -> None:
    """Gives a model of ``create_model`` another normalisation, with mean and std of each channel on a 0..1 scale."""
    layer = model.get_layer("normalize")
    layer.scale, layer.offset = _scale_and_offset(mean, std)
    model.train_function = model.test_function = model.predict_function = None  # they are compiled with the old one


def mean_and_std(model: keras.Model) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The normalisation of a model of ``create_model``: mean and std of each channel on a 0..1 scale."""
    layer = model.get_layer("normalize")
    std = [1 / (255 * scale) for scale in layer.scale]
    mean = [-offset * s for offset, s in zip(layer.offset, std, strict=True)]
    return tuple(round(m, 9) for m in mean), tuple(round(s, 9) for s in std)


def _scale_and_offset(mean: Sequence[float], std: Sequence[float]) -> tuple[list[float], list[float]]:
    mean, std = tuple(map(float, mean)), tuple(map(float, std))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise RecipeError(f"mean and std are three numbers each, std above 0; not {mean} and {std}")
    return [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
