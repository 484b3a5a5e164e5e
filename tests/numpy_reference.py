"""Operations in NumPy, written from the papers, that the tests of the architectures compare with."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

EPSILON = 1e-5  # of the residual networks' own code


def np_conv(x, kernel, stride=1, padding=0):
    """Cross-correlation (B, H, W, C), (h, w, C, D) -> (B, H', W', D) with zeros on each side."""
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    windows = sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ijcd->bhwd", windows, kernel, optimize=True)


def np_norm(x, gamma, beta, mean, variance):
    """Batch norm at inference."""
    return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta


def weights(model, layer):
    """The weights of a layer, in float64."""
    return [w.astype("float64") for w in model.get_layer(layer).get_weights()]


def np_conv_norm(model, x, name, stride=1, padding=None):
    """Convolution and batch norm with the weights of a model's layers."""
    (kernel,) = weights(model, f"{name}_conv")
    x = np_conv(x, kernel, stride, kernel.shape[0] // 2 if padding is None else padding)
    return np_norm(x, *weights(model, f"{name}_norm"))


def np_dense(model, x, name):
    """Fully connected layer with the weights of a model's layer, and its bias if it has one."""
    kernel, *bias = weights(model, name)
    return x @ kernel + (bias[0] if bias else 0)


def np_layer_norm(model, x, name, epsilon):
    """Each position over its channels, with the weights of a model's layer."""
    gamma, beta = weights(model, name)
    x = x - x.mean(-1, keepdims=True)
    return gamma * x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) + beta


def np_attention(model, x, num_heads, name, biases=None):
    """Vaswani et al. 2017, section 3.2, one head after the other; ``biases`` holds an (N, N) for each head."""
    of_heads = [np.split(y, num_heads, -1) for y in np.split(np_dense(model, x, f"{name}_qkv"), 3, -1)]
    answers = []
    for head, (q, k, v) in enumerate(zip(*of_heads, strict=True)):
        products = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
        answers.append(softmax(products + (0 if biases is None else biases[head])) @ v)
    return np_dense(model, np.concatenate(answers, -1), f"{name}_proj")


def np_excite(model, y, name):
    """SENet, equations 2 to 4: mean of each channel, two layers with biases, and the channel times the answer."""
    (w1, b1), (w2, b2) = weights(model, f"{name}_reduce"), weights(model, f"{name}_expand")
    s = relu(y.mean(axis=(1, 2)) @ w1[0, 0] + b1) @ w2[0, 0] + b2
    return y / (1 + np.exp(-s[:, None, None, :]))


def np_max_pool(x):
    """3 x 3 windows, 2 apart, of a map that is not negative, with one zero around it."""
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    size = (x.shape[1] - 1) // 2
    return np.max([x[:, i : i + 2 * size : 2, j : j + 2 * size : 2] for i in range(3) for j in range(3)], axis=0)


def relu(x):
    return np.maximum(x, 0)


gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))  # the exact one


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def assert_close(ours, expected):
    """Equal up to float32: each layer sums up to a few thousand products that are rounded at 6e-8 each."""
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()
