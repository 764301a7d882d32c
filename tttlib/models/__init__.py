"""Networks of the study, by name through `zoo`."""

from tttlib.models import zoo
from tttlib.models.mae import MaskedAutoencoder
from tttlib.models.wide_resnet import WideResNet

__all__ = ["MaskedAutoencoder", "WideResNet", "zoo"]
