"""Networks of the study, by name through `zoo`."""

from tttlib.models import zoo
from tttlib.models.mae import MaskedAutoencoder
from tttlib.models.resnext import ResNeXt
from tttlib.models.rotation_net import RotationNet
from tttlib.models.weight_files import CheckpointError
from tttlib.models.wide_resnet import WideResNet

__all__ = ["CheckpointError", "MaskedAutoencoder", "ResNeXt", "RotationNet", "WideResNet", "zoo"]
