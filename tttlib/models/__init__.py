"""Networks of the study, by name through `zoo`."""

from tttlib.models import zoo
from tttlib.models.mae import MaskedAutoencoder

__all__ = ["MaskedAutoencoder", "zoo"]
