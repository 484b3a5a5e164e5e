"""Identity mappings: what becomes of a ResNet when something stands on its shortcuts or after its sums.

Paper: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv:1603.05027.

    name                         Table 1: what the ReLU of a unit gets, F being the residual of its input x
    resnet110_const_0_1          F
    resnet110_const_05_1         0.5 x + F
    resnet110_const_05_05        0.5 x + 0.5 F
    resnet110_exclusive_gating   (1 - g) x + g F      g = sigmoid(W x + gate_bias); the paper's table has gate_bias
    resnet110_shortcut_gating    (1 - g) x + F        0 and -6, and -7 for the exclusive gate
    resnet110_conv_shortcut      W x + F
    resnet110_dropout_shortcut   dropout(x) + F

    name                         Table 2: a unit of ResNet-110 (two convolutions) and ResNet-164 (three)
    resnet164                    ReLU(x + F), F = conv BN ReLU conv BN; resnet110 is in ``resnet``
    ..._bn_after_add             ReLU(BN(x + F)), F = conv BN ReLU conv
    ..._relu_before_add          x + F, F = conv BN ReLU conv BN ReLU
    ..._relu_only_preact         x + F, F = ReLU conv BN ReLU conv BN
    ..._preact                   x + F, F = BN ReLU conv BN ReLU conv; also resnet1001_preact

The depth is 6 units + 2, and 9 units + 2 with three convolutions. Where the shape changes, ResNet-110 pads x with
zeros, and the deeper networks convolve it 1x1. All of Table 1 pads, except for the row whose shortcuts are convolved.

Two things the paper leaves open. A pre-activation ResNet-110 pads x as it came, not activated. Dropout doubles what
it keeps in training, as in Caffe, so that inference has the identity; the paper speaks of an expectation of 0.5.
"""

from functools import partial

from keras import initializers, layers

from kcls.models.blocks import activation, conv, conv_norm_act, dropout, norm, norm_relu
from kcls.models.registry import variants
from kcls.models.resnet import basic, each_unit, pad_shortcut, projection, projection_where_needed

# Table 1. The sum of a unit: input x, residual f -> what its ReLU gets, in the shape of f.


def no_shortcut(x, f, stride, name):
    """Constant scaling 0, 1: a plain network."""
    return f


def half_shortcut(x, f, stride, name):
    """Constant scaling 0.5, 1."""
    return 0.5 * pad_shortcut(x, f, stride, name) + f


def half_of_both(x, f, stride, name):
    """Constant scaling 0.5, 0.5."""
    return 0.5 * pad_shortcut(x, f, stride, name) + 0.5 * f


def gate(x, f, stride, name, bias):
    """A number from 0 to 1 for each value of f: sigmoid of a 1x1 convolution of x."""
    bias = initializers.Constant(bias)
    g = conv(x, f.shape[-1], 1, stride, use_bias=True, bias_initializer=bias, name=f"{name}_gate_conv")
    return activation(g, "sigmoid", name=f"{name}_gate")


def exclusive_gate(x, f, stride, name, gate_bias):
    """As in Highway Networks: what one path gains, the other loses."""
    g = gate(x, f, stride, name, gate_bias)
    return (1 - g) * pad_shortcut(x, f, stride, name) + g * f


def shortcut_gate(x, f, stride, name, gate_bias):
    """The gate on the shortcut only."""
    g = gate(x, f, stride, name, gate_bias)
    return (1 - g) * pad_shortcut(x, f, stride, name) + f


def conv_shortcut(x, f, stride, name):
    """A 1x1 convolution and batch norm on every shortcut."""
    return projection(x, f, stride, name) + f


def dropped_shortcut(x, f, stride, name):
    """Dropout on the shortcut."""
    return dropout(pad_shortcut(x, f, stride, name), 0.5, name=f"{name}_shortcut_drop") + f


def table1_resnet(x, add, units, width):
    """Image (B, H, W, 3) -> features (B, 4 width), from units ReLU(add(x, F))."""
    x = conv_norm_act(x, width, 3, name="stem")
    for w, stride, _, name in each_unit((units,) * 3, (width, 2 * width, 4 * width)):
        f = basic(x, w, stride, name)
        x = activation(add(x, f, stride, name), "relu", name=f"{name}_relu")
    return layers.GlobalAveragePooling2D(name="pool")(x)


@variants(
    image_size=32,
    num_classes=10,
    resnet110_const_0_1=dict(add=no_shortcut),
    resnet110_const_05_1=dict(add=half_shortcut),
    resnet110_const_05_05=dict(add=half_of_both),
    resnet110_conv_shortcut=dict(add=conv_shortcut),
    resnet110_dropout_shortcut=dict(add=dropped_shortcut),
)
def scaled_resnet(x, *, add, units: int = 18, width: int = 16):
    """Image (B, H, W, 3) -> features (B, 4 width)."""
    return table1_resnet(x, add, units, width)


@variants(
    image_size=32,
    num_classes=10,
    resnet110_exclusive_gating=dict(add=exclusive_gate, also=(dict(gate_bias=-6), dict(gate_bias=-7))),
    resnet110_shortcut_gating=dict(add=shortcut_gate, also=(dict(gate_bias=-6),)),
)
def gated_resnet(x, *, add, gate_bias: float = 0, units: int = 18, width: int = 16):
    """Image (B, H, W, 3) -> features (B, 4 width); ``gate_bias`` is the first value of the biases of all gates."""
    return table1_resnet(x, partial(add, gate_bias=gate_bias), units, width)


# Table 2. The convolutions of a residual: width, kernel and stride of each.


def basic_convs(width, stride):
    """3x3, 3x3; D = width."""
    return (width, 3, stride), (width, 3, 1)


def bottleneck_convs(width, stride):
    """1x1 with the stride, as in the authors' code, 3x3, 1x1; D = 4 width."""
    return (width, 1, stride), (width, 3, 1), (4 * width, 1, 1)


# Activation after the convolutions: a unit is (B, H, W, C) -> (B, H/stride, W/stride, D).


def conv_norm_relus(x, convs, name):
    """Convolution, batch norm, ReLU for each of ``convs``."""
    for i, (width, kernel, stride) in enumerate(convs, 1):
        x = conv_norm_act(x, width, kernel, stride, name=f"{name}_{i}")
    return x


def original(x, convs, shortcut, stride, name):
    """ReLU(x + F): Figure 4a."""
    *others, (width, kernel, _) = convs
    y = conv_norm_relus(x, others, name)
    y = conv_norm_act(y, width, kernel, act=None, name=f"{name}_{len(convs)}")
    y = layers.Add(name=f"{name}_add")([shortcut(x, y, stride, name), y])
    return activation(y, "relu", name=f"{name}_relu")


def bn_after_add(x, convs, shortcut, stride, name):
    """ReLU(BN(x + F)), F without its last batch norm: Figure 4b."""
    *others, (width, kernel, _) = convs
    y = conv_norm_relus(x, others, name)
    y = conv(y, width, kernel, name=f"{name}_{len(convs)}_conv")
    y = layers.Add(name=f"{name}_add")([shortcut(x, y, stride, name), y])
    return activation(norm(y, name=f"{name}_norm"), "relu", name=f"{name}_relu")


def relu_before_add(x, convs, shortcut, stride, name):
    """The sum x + F, F ending in ReLU, so that it only ever adds: Figure 4c."""
    y = conv_norm_relus(x, convs, name)
    return layers.Add(name=f"{name}_add")([shortcut(x, y, stride, name), y])


A, B = pad_shortcut, projection_where_needed


@variants(
    image_size=32,
    num_classes=10,
    resnet164=dict(unit=original, convs=bottleneck_convs, shortcut=B),
    resnet110_bn_after_add=dict(unit=bn_after_add, convs=basic_convs, shortcut=A),
    resnet164_bn_after_add=dict(unit=bn_after_add, convs=bottleneck_convs, shortcut=B),
    resnet110_relu_before_add=dict(unit=relu_before_add, convs=basic_convs, shortcut=A),
    resnet164_relu_before_add=dict(unit=relu_before_add, convs=bottleneck_convs, shortcut=B),
)
def postact_resnet(x, *, unit, convs, shortcut, units: int = 18, width: int = 16):
    """Image (B, H, W, 3) -> features (B, C)."""
    x = conv_norm_act(x, width, 3, name="stem")
    for w, stride, _, name in each_unit((units,) * 3, (width, 2 * width, 4 * width)):
        x = unit(x, convs(w, stride), shortcut, stride, name)
    return layers.GlobalAveragePooling2D(name="pool")(x)


# Activation before the convolutions: what stands before and after each of them, the stem and the end of the network
# included. What comes before the first convolution of a unit is its activation.


def relu(x, name):
    """ReLU."""
    return activation(x, "relu", name=f"{name}_relu")


def only_norm(x, name):
    """Batch norm."""
    return norm(x, name=f"{name}_norm")


def nothing(x, name):
    """The input itself."""
    return x


# The shortcut: input x, activated input a, residual y -> in the shape of y.


def pad_input(x, a, y, stride, name):
    """x, padded with zeros where the shape changes."""
    return pad_shortcut(x, y, stride, name)


def project_activated(x, a, y, stride, name):
    """x, and where the shape changes a 1x1 convolution of a."""
    return x if x.shape == y.shape else conv(a, y.shape[-1], 1, stride, name=f"{name}_shortcut_conv")


def preact_unit(x, before, after, convs, shortcut, stride, first, name):
    """The sum x + F: Figure 4d and 4e."""
    y = x
    for i, (width, kernel, s) in enumerate(convs, 1):
        y = before(y, f"{name}_{i}")
        if i == 1:
            a = y
        y = after(conv(y, width, kernel, s, name=f"{name}_{i}_conv"), f"{name}_{i}")
    if first:  # section 4.1: the first activation of the network stands before the paths part
        x = a
    return layers.Add(name=f"{name}_add")([shortcut(x, a, y, stride, name), y])


RELU_ONLY = dict(before=relu, after=only_norm)  # Figure 4d
FULL = dict(before=norm_relu, after=nothing)  # Figure 4e


@variants(
    image_size=32,
    num_classes=10,
    resnet110_relu_only_preact=dict(**RELU_ONLY, convs=basic_convs, shortcut=pad_input),
    resnet164_relu_only_preact=dict(**RELU_ONLY, convs=bottleneck_convs, shortcut=project_activated),
    resnet110_preact=dict(**FULL, convs=basic_convs, shortcut=pad_input),
    resnet164_preact=dict(**FULL, convs=bottleneck_convs, shortcut=project_activated),
    resnet1001_preact=dict(**FULL, convs=bottleneck_convs, shortcut=project_activated, units=111),
)
def preact_resnet(x, *, before, after, convs, shortcut, units: int = 18, width: int = 16):
    """Image (B, H, W, 3) -> features (B, C)."""
    x = after(conv(x, width, 3, name="stem_conv"), "stem")
    for w, stride, _, name in each_unit((units,) * 3, (width, 2 * width, 4 * width)):
        x = preact_unit(x, before, after, convs(w, stride), shortcut, stride, name == "stage1_unit1", name)
    x = before(x, "last")
    return layers.GlobalAveragePooling2D(name="pool")(x)
