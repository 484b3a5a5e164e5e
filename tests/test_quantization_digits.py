"""Training for int8 on real digits: the file answers as the network that was trained, and better than without."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
from test_quantization import run

import kcls
from kcls.data.preprocess import Preprocess
from kcls.exporting.tflite import make_tflite
from kcls.methods import Method
from kcls.quantization import plain, quantize_aware

pytestmark = pytest.mark.heavy
SIZE = 16
RECIPE = """\
model:   {name: resnet20, options: {units: 1, width: 8}}
data:    {source: digits, train: "train[:90%]", val: "train[90%:]", test: test}
image:   {size: 16}
augment: {flip: false, crop_padding: 2}
optimizer: {name: sgd, lr: 0.1}
train:   {epochs: 1, batch_size: 64}
"""


@dataclass
class Digits:
    """The training images and those of the test split, with a network that has learnt the former."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    network: keras.Model

    def train(self, network: keras.Model, lr: float, epochs: int) -> None:
        """Trains with a method of kcls in Keras's own loop."""
        method = Method(network)
        schedule = keras.optimizers.schedules.CosineDecay(lr, len(self.x) // 64 * epochs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        method.compile(keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True), loss)
        method.fit(self.x.astype("float32"), self.y, batch_size=64, epochs=epochs, verbose=0)

    def answers(self, network: keras.Model) -> np.ndarray:
        return network.predict(self.test_x.astype("float32"), verbose=0).argmax(-1)

    def file_answers(self, network: keras.Model) -> np.ndarray:
        names = tuple("0123456789")
        return run(make_tflite(network, names, Preprocess(SIZE), "int8", self.x[:256]), self.test_x)[0].argmax(-1)

    def top1(self, answers: np.ndarray) -> float:
        return float((answers == self.test_y).mean())


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Digits:
    path = tmp_path_factory.mktemp("digits") / "digits.yaml"
    path.write_text(RECIPE)
    keras.utils.set_random_seed(0)

    def arrays(split, batches):
        stream, _ = kcls.load_data(path, split)
        x, y = zip(*stream.take(batches).as_numpy_iterator(), strict=True)
        return np.concatenate(x), np.concatenate(y)

    network = kcls.create_model("resnet20", num_classes=10, image_size=SIZE, units=1, width=8)
    digits = Digits(*arrays("train", 20), *arrays("test", -1), network)
    assert len(digits.test_x) == 359
    digits.train(digits.network, lr=0.05, epochs=8)
    return digits


def stretch(network: keras.Model) -> keras.Model:
    """The same function, hard to quantize: of each unit's inner channels, half are 64 times as large as the others."""
    weights, network = network.get_weights(), keras.models.clone_model(network)
    network.set_weights(weights)
    random = np.random.default_rng(0)
    for norm in network.layers:
        if norm.name.endswith("_1_norm"):  # a ReLU follows, which powers of two pass
            factors = 2.0 ** random.choice([-3, 3], norm.gamma.shape)
            norm.gamma.assign(norm.gamma * factors)
            norm.beta.assign(norm.beta * factors)
            conv = network.get_layer(norm.name.replace("_1_norm", "_2_conv"))
            conv.kernel.assign(conv.kernel / factors[:, np.newaxis])
    return network


def test_the_file_answers_as_the_network_that_was_trained(digits):
    aware = quantize_aware(digits.network)
    digits.train(aware, lr=0.01, epochs=2)
    expected, found = digits.answers(aware), digits.file_answers(aware)
    assert (found == expected).mean() >= 0.99
    # This network loses nothing to int8 (see the other test for one that does), and two epochs move a few images.
    assert digits.top1(found) >= digits.top1(digits.file_answers(digits.network)) - 0.01
    assert digits.top1(expected) > 0.95  # so that there is a margin to agree within


def test_training_gets_back_what_a_network_that_is_hard_to_quantize_loses(digits):
    hard = stretch(digits.network)
    expected = digits.answers(digits.network)
    np.testing.assert_array_equal(digits.answers(hard), expected)
    lost = digits.top1(expected) - digits.top1(digits.file_answers(hard))
    assert lost >= 0.03
    aware = quantize_aware(hard)
    digits.train(aware, lr=0.02, epochs=6)
    found = digits.file_answers(aware)
    assert (found == digits.answers(aware)).mean() >= 0.99
    assert digits.top1(found) >= digits.top1(expected) - 0.005  # two images of 359 less, at most
    assert digits.top1(digits.answers(plain(aware))) >= digits.top1(expected) - 0.01  # it never learnt to be exact
