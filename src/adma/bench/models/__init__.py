"""The networks of the bench: the paper's ConvNet and ResNet34, an MLP for vectors, a U-Net, and the user's own."""

from adma.bench.models.build import BUILT_IN, build_model, canonical_model, check_model, is_built_in
from adma.bench.models.convnet import ConvNet
from adma.bench.models.groups import parameter_groups
from adma.bench.models.mlp import MLP
from adma.bench.models.resnet import ResNet34
from adma.bench.models.unet import UNet

__all__ = [
    "BUILT_IN",
    "MLP",
    "ConvNet",
    "ResNet34",
    "UNet",
    "build_model",
    "canonical_model",
    "check_model",
    "is_built_in",
    "parameter_groups",
]
