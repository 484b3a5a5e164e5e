"""How Keras Applications calls the layers of the variants, where its ImageNet weights lie, how it wants its images.

The digests are those of Keras's source, so that its cache and ours are one. Keras's ResNet50V2 is not here: it strides
in the last unit of a stage, not in the first of the next one, which is another network than the paper's and ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kcls.errors import KclsError
from kcls.weights.name_map import HALF, IMAGENET_MEAN, IMAGENET_STD, apply_rules


@dataclass(frozen=True)
class Application:
    """The counterpart of one variant.

    Attributes:
        architecture: its name in ``keras.applications``.
        rules: pattern of our layer names -> template of theirs, as in ``NameMap``.
        url: of the weights that were trained on ImageNet.
        digest: MD5 or SHA-256 of that file, as Keras has it; None where Keras has none.
        licence: of that file, as Keras's documentation states it; None where it does not.
        mean: of each channel on a 0..1 scale, as its ``preprocess_input`` or its own first layers take it off.
        std: the same of the standard deviation.
        bgr: whether its images are BGR, as Caffe's were.
        same_padding: whether the model must be built with TensorFlow's padding.
        prefix: of all its layer names.
    """

    architecture: str
    rules: Mapping[str, str]
    url: str
    digest: str | None
    licence: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool
    same_padding: bool
    prefix: str

    def name(self, path: str) -> str:
        """Their name of our weight ``layer/variable``.

        Raises:
            KclsError: no rule matches, which is a mistake in kcls.
        """
        layer, _, variable = path.rpartition("/")
        if name := apply_rules(self.rules, layer):
            return f"{self.prefix}{name}/{variable}"
        raise KclsError(f"no rule of {self.architecture} matches the weight {path}")


APPLICATIONS: dict[str, Application] = {}  # variant -> its counterpart


def _enter(
    rules: Mapping[str, str],
    url: str,
    *,
    licence: str | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    bgr: bool = False,
    same_padding: bool = False,
    prefix: str = "",
    **rows: tuple[str, str | None],
) -> None:
    """Enters variants that share rules: our name -> the name in ``keras.applications`` and the file's digest."""
    for variant, (architecture, digest) in rows.items():
        file = url.format(variant=variant, architecture=architecture.lower())
        own = prefix.format(variant=variant)
        row = Application(architecture, rules, file, digest, licence, mean, std, bgr, same_padding, own)
        APPLICATIONS[variant] = row


STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications"
KERNELS = "{architecture}_weights_tf_dim_ordering_tf_kernels.h5"

# Caffe's preprocessing: the mean is taken off on a scale of 0..255, and nothing is divided.
CAFFE_MEAN, CAFFE_STD = (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3

_enter(
    {
        r"stem_conv": "conv1_conv",
        r"stem_norm": "conv1_bn",
        r"stage(\d+)_unit(\d+)_(\d)_conv": "conv{0:+1}_block{1}_{2}_conv",
        r"stage(\d+)_unit(\d+)_(\d)_norm": "conv{0:+1}_block{1}_{2}_bn",
        r"stage(\d+)_unit(\d+)_shortcut_conv": "conv{0:+1}_block{1}_0_conv",
        r"stage(\d+)_unit(\d+)_shortcut_norm": "conv{0:+1}_block{1}_0_bn",
        r"head": "predictions",
    },
    f"{STORAGE}/resnet/{KERNELS}",
    licence="mit",
    mean=CAFFE_MEAN,
    std=CAFFE_STD,
    bgr=True,
    resnet50_v1=("ResNet50", "2cb95161c43110f7111970584f804107"),
    resnet101_v1=("ResNet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5"),
    resnet152_v1=("ResNet152", "100835be76be38e30d865e96f2aaae62"),
)
_enter(
    {r"stage(\d)_(\d)_conv": "block{0}_conv{1}", r"fc6": "fc1", r"fc7": "fc2", r"head": "predictions"},
    f"{STORAGE}/{{architecture}}/{KERNELS}",
    licence="cc-by-4.0",
    mean=CAFFE_MEAN,
    std=CAFFE_STD,
    bgr=True,
    vgg16=("VGG16", "64373286793e3c8b2b4e3219cbf3544b"),
    vgg19=("VGG19", "cbe5617147190e668d6c5d5026f83318"),
)
_enter(
    {
        r"stem_conv": "conv1_conv",
        r"stem_norm": "conv1_bn",
        r"stage(\d+)_unit(\d+)_(\d)_conv": "conv{0:+1}_block{1}_{2}_conv",
        r"stage(\d+)_unit(\d+)_(\d)_norm": "conv{0:+1}_block{1}_{2:-1}_bn",
        r"transition(\d)_conv": "pool{0:+1}_conv",
        r"transition(\d)_norm": "pool{0:+1}_bn",
        r"final_norm": "bn",
        r"head": "predictions",
    },
    f"{STORAGE}/densenet/{KERNELS}",
    licence="bsd-3-clause",
    densenet121=("DenseNet121", "9d60b8095a5708f2dcce2bca79d332c7"),
    densenet169=("DenseNet169", "d699b8f76981ab1b30698df4c175e90b"),
    densenet201=("DenseNet201", "1ceb130c1ea1b78c3bf6114dbdfd8807"),
)
_enter(
    {
        r"stem_conv": "stem_conv",
        r"stem_norm": "stem_bn",
        r"stage(\d)_block(\d+)_expand_conv": "block{0}{1:a}_expand_conv",
        r"stage(\d)_block(\d+)_expand_norm": "block{0}{1:a}_expand_bn",
        r"stage(\d)_block(\d+)_depthwise_conv": "block{0}{1:a}_dwconv",
        r"stage(\d)_block(\d+)_depthwise_norm": "block{0}{1:a}_bn",
        r"stage(\d)_block(\d+)_se_(\w+)": "block{0}{1:a}_se_{2}",
        r"stage(\d)_block(\d+)_project_conv": "block{0}{1:a}_project_conv",
        r"stage(\d)_block(\d+)_project_norm": "block{0}{1:a}_project_bn",
        r"last_conv": "top_conv",
        r"last_norm": "top_bn",
        r"head": "predictions",
    },
    "https://storage.googleapis.com/keras-applications/{architecture}.h5",
    same_padding=True,
    efficientnet_b0=("EfficientNetB0", "902e53a9f72be733fc0bcb005b3ebbac"),
    efficientnet_b1=("EfficientNetB1", "1d254153d4ab51201f1646940f018540"),
    efficientnet_b2=("EfficientNetB2", "b15cce36ff4dcbd00b6dd88e7857a6ad"),
    efficientnet_b3=("EfficientNetB3", "ffd1fdc53d0ce67064dc6a9c7960ede0"),
    efficientnet_b4=("EfficientNetB4", "18c95ad55216b8f92d7e70b3a046e2fc"),
    efficientnet_b5=("EfficientNetB5", "ace28f2a6363774853a83a0b21b9421a"),
    efficientnet_b6=("EfficientNetB6", "165f6e37dce68623721b423839de8be5"),
    efficientnet_b7=("EfficientNetB7", "8c03f828fec3ef71311cd463b6759d99"),
)


def _mobilenet(*depths: int, prefix: str, norm: str) -> dict[str, str]:
    """The rules of the blocks: Keras numbers them through all stages, from 0, which has no number."""
    parts = {
        r"(expand|depthwise|project)_conv": "{1}",
        r"(expand|depthwise|project)_norm": f"{{1}}_{norm}",
        r"se_reduce": "squeeze_excite_conv",
        r"se_expand": "squeeze_excite_conv_1",
    }
    rules, before = {}, 0
    for s, depth in enumerate(depths, 1):
        block = f"{prefix}_{{0:+{before - 1}}}" if before else "expanded_conv"
        for pattern, template in parts.items():
            rules[rf"stage{s}_block(\d+)_{pattern}"] = f"{block}_{template}"
        before += depth
    return rules


_enter(
    {
        r"stem_conv": "Conv1",
        r"stem_norm": "bn_Conv1",
        **_mobilenet(1, 2, 3, 4, 3, 3, 1, prefix="block", norm="BN"),
        r"last_conv": "Conv_1",
        r"last_norm": "Conv_1_bn",
        r"head": "predictions",
    },
    f"{STORAGE}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
    licence="apache-2.0",
    mean=HALF,
    std=HALF,
    same_padding=True,
    mobilenet_v2=("MobileNetV2", None),
)
V3_URL = f"{STORAGE}/mobilenet_v3/weights_{{variant}}_224_1.0_float.h5"
V3_RULES = {
    r"stem_conv": "conv",
    r"stem_norm": "conv_bn",
    r"last_conv": "conv_1",
    r"last_norm": "conv_1_bn",
    r"features": "conv_2",
    r"head": "logits",
}
_enter(
    V3_RULES | _mobilenet(1, 2, 3, 4, 2, 3, prefix="expanded_conv", norm="bn"),
    V3_URL,
    mean=HALF,
    std=HALF,
    same_padding=True,
    mobilenet_v3_large=("MobileNetV3Large", "59e551e166be033d707958cf9e29a6a7"),
)
_enter(
    V3_RULES | _mobilenet(1, 2, 3, 2, 3, prefix="expanded_conv", norm="bn"),
    V3_URL,
    mean=HALF,
    std=HALF,
    same_padding=True,
    mobilenet_v3_small=("MobileNetV3Small", "8768d4c2e7dee89b9d02b2d03d65d862"),
)
_enter(
    {
        r"stem_conv": "stem_conv",
        r"stem_norm": "stem_layernorm",
        r"stage(\d)_downsample_norm": "downsampling_layernorm_{0:-2}",
        r"stage(\d)_downsample_conv": "downsampling_conv_{0:-2}",
        r"stage(\d)_block(\d+)_conv": "stage_{0:-1}_block_{1:-1}_depthwise_conv",
        r"stage(\d)_block(\d+)_norm": "stage_{0:-1}_block_{1:-1}_layernorm",
        r"stage(\d)_block(\d+)_expand": "stage_{0:-1}_block_{1:-1}_pointwise_conv_1",
        r"stage(\d)_block(\d+)_reduce": "stage_{0:-1}_block_{1:-1}_pointwise_conv_2",
        r"stage(\d)_block(\d+)_scale": "stage_{0:-1}_block_{1:-1}_layer_scale",
        r"last_norm": "head_layernorm",
        r"head": "head_dense",
    },
    f"{STORAGE}/convnext/{{variant}}.h5",
    prefix="{variant}_",
    convnext_tiny=("ConvNeXtTiny", "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff"),
    convnext_small=("ConvNeXtSmall", "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c"),
    convnext_base=("ConvNeXtBase", "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6"),
    convnext_large=("ConvNeXtLarge", "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6"),
)
