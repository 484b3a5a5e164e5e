"""A checkpoint with timm's tensor names in the safetensors format."""

from pathlib import Path

import keras

from kcls.errors import KclsError
from kcls.weights.assign import assign
from kcls.weights.name_map import NAME_MAPS, to_keras


def load_timm_file(model: keras.Model, path: Path) -> bool:
    """Fills ``model`` from the file; returns whether the head was filled, too.

    Raises:
        KclsError: the file cannot be read or does not fit the model, which is unchanged then.
    """
    from safetensors import SafetensorError, safe_open

    names = NAME_MAPS[model.name].tensor_name
    try:
        with safe_open(path, framework="np") as file:
            available = {name for name in file.keys() if not name.endswith("num_batches_tracked")}
            return assign(
                model,
                names,
                available,
                lambda name, weight, layer: to_keras(file.get_tensor(name), weight, layer),
                str(path),
            )
    except (SafetensorError, OSError) as error:
        raise KclsError(f"{path} is not a safetensors file, or is cut off: {error}") from None
