"""SavedModel: raw images or encoded files in, labels and probabilities out, preprocessing in the graph."""

from pathlib import Path

import keras
import tensorflow as tf

from kcls.data.archive import config_files
from kcls.data.decode import decode_tensor
from kcls.data.preprocess import Preprocess
from kcls.weights.digest import weights_sha256


def write_saved_model(model: keras.Model, class_names: tuple[str, ...], preprocess: Preprocess, folder: Path) -> None:
    """Writes ``model`` to ``folder`` with two signatures.

    Both return ``labels`` (B, C) and ``probabilities`` (B, C), the most probable class first.

    - ``serving_default``: ``images``, uint8 (B, H, W, 3), RGB, any size.
    - ``encoded``: ``images``, strings (B,), the bytes of JPEG, PNG, GIF, BMP or WebP files; each may have its size.
    """
    names = tf.constant(class_names)

    def answer(squares):
        probabilities = tf.nn.softmax(model(tf.cast(squares, tf.float32), training=False))
        probabilities, order = tf.math.top_k(probabilities, k=len(class_names))
        return {"labels": tf.gather(names, order), "probabilities": probabilities}

    square = tf.TensorSpec((preprocess.image_size, preprocess.image_size, 3), tf.uint8)

    def from_images(images):
        return answer(tf.map_fn(preprocess.tensor, images, fn_output_signature=square))

    def from_encoded(images):
        return answer(tf.map_fn(lambda b: preprocess.tensor(decode_tensor(b)), images, fn_output_signature=square))

    archive = keras.export.ExportArchive()
    archive.track(model)
    raw = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    archive.add_endpoint("serving_default", from_images, input_signature=[raw])
    archive.add_endpoint("encoded", from_encoded, input_signature=[tf.TensorSpec((None,), tf.string, name="images")])
    archive.write_out(str(folder), verbose=False)
    extra = folder / "assets.extra"
    extra.mkdir()
    for name, text in config_files(class_names, preprocess, weights_sha256(model)).items():
        (extra / name).write_text(text, encoding="utf-8")
