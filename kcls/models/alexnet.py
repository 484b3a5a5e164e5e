"""AlexNet: five convolutions and three fully connected layers, split over two halves that rarely meet.

Paper: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012.

    layer       kernel, stride   width   groups   bias starts at   followed by
    conv1       11, 4            96      1        0                ReLU, norm, pool 3/2
    conv2       5, 1             256     2        1                ReLU, norm, pool 3/2
    conv3       3, 1             384     1        0                ReLU
    conv4       3, 1             384     2        1                ReLU
    conv5       3, 1             256     2        1                ReLU, pool 3/2
    fc6, fc7    -                4096    -        1                ReLU, dropout 0.5

The halves were two GPUs: layers of 2 groups see the maps of their own half only. The norm is the local response
norm of section 3.3. Every kernel is drawn with a standard deviation of 0.01, section 5, which suits pixels of the
paper's scale, 0..255 less their mean: on -1..1 the first logits would hardly depend on the image.

Differs: the mean is that of each channel, the paper's that of each pixel. Images are 227 px, whose first map is the
paper's 55 x 55; its 224 px would need 2 more pixels on each side.
``width`` is that of conv1, and the other convolutions keep their ratio to it.
"""

from functools import partial

from keras import initializers, layers

from kcls.models.blocks import activation, conv, dropout, local_response_norm, max_pool
from kcls.models.registry import BYTE, IMAGENET_MEAN, linear_head, variants


def gaussian():
    """The paper's first kernels: mean 0, standard deviation 0.01."""
    return initializers.RandomNormal(stddev=0.01)


def conv_relu(x, width, kernel, stride=1, *, padding=None, groups=1, bias, name):
    """Convolution, ReLU: (B, H, W, C) -> (B, H/stride, W/stride, width); ``bias`` is where its biases start."""
    x = conv(
        x,
        width,
        kernel,
        stride,
        padding=padding,
        groups=groups,
        use_bias=True,
        kernel_initializer=gaussian(),
        bias_initializer=initializers.Constant(bias),
        name=f"{name}_conv",
    )
    return activation(x, "relu", name=f"{name}_relu")


def norm_pool(x, name):
    """The norm of section 3.3, then the overlapping pool of section 3.4: (B, H, W, C) -> (B, H/2, W/2, C)."""
    x = local_response_norm(x, bias=2.0, alpha=1e-4)
    return max_pool(x, 3, 2, name=name)


def dense_relu(x, width, name):
    """Fully connected layer, ReLU: (B, C) -> (B, width). Its biases start at 1, so that its units start active."""
    x = layers.Dense(width, kernel_initializer=gaussian(), bias_initializer="ones", name=name)(x)
    return activation(x, "relu", name=f"{name}_relu")


@variants(
    image_size=227,
    num_classes=1000,
    head=partial(linear_head, init=gaussian),
    drop_rate=0.5,
    mean=IMAGENET_MEAN,
    std=BYTE,
    alexnet=dict(),
)
def alexnet(x, *, width: int = 96, fc_width: int = 4096, fc_drop_rate: float = 0.5):
    """Image (B, H, W, 3) -> features (B, fc_width). ``fc_drop_rate`` is of fc6, and the frame's of fc7."""
    x = conv_relu(x, width, 11, 4, padding=0, bias=0, name="conv1")
    x = norm_pool(x, name="pool1")
    x = conv_relu(x, width * 8 // 3, 5, groups=2, bias=1, name="conv2")
    x = norm_pool(x, name="pool2")
    x = conv_relu(x, width * 4, 3, bias=0, name="conv3")
    x = conv_relu(x, width * 4, 3, groups=2, bias=1, name="conv4")
    x = conv_relu(x, width * 8 // 3, 3, groups=2, bias=1, name="conv5")
    x = max_pool(x, 3, 2, name="pool5")
    x = layers.Flatten(name="flatten")(x)
    x = dense_relu(x, fc_width, name="fc6")
    x = dropout(x, fc_drop_rate, name="fc6_drop")
    return dense_relu(x, fc_width, name="fc7")
