"""What publishers offer for download: addresses, checksums and what unpacking gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """One file of a publisher.

    url        its address
    file       its name under the data root
    checksum   "algorithm:hex", or None where none was found published for this very address
    published  where the checksum stands, or why there is none
    folders    the folders that it holds; none: the file itself is what is wanted
    into       folder of the data root that they go into
    """

    url: str
    file: str
    checksum: str | None
    published: str
    folders: tuple[str, ...] = ()
    into: str = ""


def _imagenet_c(part: str, md5: str, *corruptions: str) -> Archive:
    return Archive(
        f"https://zenodo.org/records/2235448/files/{part}.tar?download=1",
        f"{part}.tar",
        f"md5:{md5}",
        "zenodo record 2235448",
        corruptions,
        "ImageNet-C",
    )


_TINY = (
    Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "tiny-imagenet-200.zip",
        "md5:90528d7ca1a48142e341f4ef8d21d0de",
        "not by Stanford; the same in Avalanche, TorchUncertainty and many other readers of it",
        ("tiny-imagenet-200",),
    ),
)

ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "tiny-imagenet": _TINY,
    "tiny-imagenet-100": _TINY,
    "tiny-imagenet-50": _TINY,
    "cifar10": (
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "cifar-10-python.tar.gz",
            "md5:c58f30108f718f92721af3b95e74349a",
            "the dataset's page, and torchvision.datasets.CIFAR10",
            ("cifar-10-batches-py",),
        ),
    ),
    "cifar100": (
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "cifar-100-python.tar.gz",
            "md5:eb9058c3a382ffc7106e4002c42a8d85",
            "the dataset's page, and torchvision.datasets.CIFAR100",
            ("cifar-100-python",),
        ),
    ),
    "cifar10-c": (
        Archive(
            "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar?download=1",
            "CIFAR-10-C.tar",
            "md5:56bf5dcef84df0e2308c6dcbcbbd8499",
            "zenodo record 2535967",
            ("CIFAR-10-C",),
        ),
    ),
    "cifar100-c": (
        Archive(
            "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar?download=1",
            "CIFAR-100-C.tar",
            "md5:11f0ed0f1191edbf9fa23466ae6021d3",
            "zenodo record 3555552",
            ("CIFAR-100-C",),
        ),
    ),
    "imagenet-c": (
        _imagenet_c(
            "noise", "e80562d7f6c3f8834afb1ecf27252745",
            "gaussian_noise", "shot_noise", "impulse_noise",
        ),
        _imagenet_c(
            "blur", "2d8e81fdd8e07fef67b9334fa635e45c",
            "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
        ),
        _imagenet_c(
            "weather", "33ffea4db4d93fe4a428c40a6ce0c25d",
            "snow", "frost", "fog", "brightness",
        ),
        _imagenet_c(
            "digital", "89157860d7b10d5797849337ca2e5c03",
            "contrast", "elastic_transform", "pixelate", "jpeg_compression",
        ),
        _imagenet_c(
            "extra", "d492dfba5fc162d8ec2c3cd8ee672984",
            "speckle_noise", "gaussian_blur", "spatter", "saturate",
        ),
    ),
    "tiny-imagenet-c": (
        Archive(
            "https://zenodo.org/records/2536630/files/Tiny-ImageNet-C.tar?download=1",
            "Tiny-ImageNet-C.tar",
            None,
            "record 2536630's own was not at hand; TorchUncertainty publishes "
            "md5:f9c9a9dbdc11469f0b850190f7ad8be1 for the copy in zenodo record 8206060",
            ("Tiny-ImageNet-C",),
        ),
    ),
    "imagenet-5000-list": (
        Archive(
            "https://raw.githubusercontent.com/RobustBench/robustbench/master/robustbench/"
            "helper_files/imagenet_test_image_ids.txt",
            "imagenet_test_image_ids.txt",
            "sha256:d4121626d07722a0126c35b1563042e46a546f1a05ce705f2cdc635896d58574",
            "computed from the list in RobustBench's repository",
        ),
    ),
}  # fmt: skip

_IMAGENET = (
    "needs an account: 1. register at https://image-net.org and accept the terms; 2. fetch "
    "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from "
    "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php; 3. unpack the first into "
    "ImageNet/val/ and the second into ImageNet/ under the data root; 4. tttlib data check "
    "imagenet"
)

INSTEAD = {
    "scenes": "is made on the spot; there is nothing to download",
    "imagenet": _IMAGENET,
    "imagenet-sample": f"{_IMAGENET}, and: tttlib data download imagenet-5000-list",
    "cifar10-jpeg": (
        "has no address that stays; save the parquet files of a hub copy whose images are JPEG as "
        "cifar10-jpeg-train.parquet and cifar10-jpeg-test.parquet in the data root. For the "
        "lossless images: tttlib data download cifar10"
    ),
}
