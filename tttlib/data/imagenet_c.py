"""ImageNet-C and Tiny-ImageNet-C from the released folders.

`ImageNet-C/<corruption>/<severity>/<wnid>/ILSVRC2012_val_XXXXXXXX.JPEG` (224x224) and
`Tiny-ImageNet-C/…` (64x64). The archives noise, blur, weather, digital and extra may each have been
unpacked into a folder of that name. Labels number all sorted wnids, never the folders present.

Source: Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261; zenodo records 2235448 and 2536630.
"""

from __future__ import annotations

from pathlib import Path

from tttlib.boxes import CROP
from tttlib.data import c_options, class_folders, imagenet, tiny_imagenet
from tttlib.data.imageset import ImageSet, check_split
from tttlib.data.lookup import find, listing
from tttlib.runtime.errors import MissingDataError

ARCHIVES = ("noise", "blur", "weather", "digital", "extra")
SOURCE = "https://zenodo.org/records/2235448 (noise, blur, weather, digital, extra .tar)"
TINY_SOURCE = "https://zenodo.org/records/2536630 (Tiny-ImageNet-C.tar)"
_TINY_IMAGES = 10_000


def load(
    split: str,
    root: Path,
    *,
    corruption: str | None = None,
    severity: int = 5,
    subset: str | None = None,
    preprocess: str = "to_tensor",
    boxes: bool = False,
) -> ImageSet:
    """Load ImageNet-C's 50,000 images under one corruption; they are decoded when indexed.

    Parameters
    ----------
    split
        "test".
    root
        The data root.
    corruption
        One of the 19 released ones.
    severity
        1 … 5.
    subset
        None or "5000", see `imagenet.choose`; the set's name says what was taken.
    preprocess
        One of `tttlib.boxes.PREPROCESS`; it changes every number, see `image_files`.
    boxes
        Whether to read the original images' annotations, see `imagenet.load`.

    Returns
    -------
    ImageSet
        An image's id is its number in the validation set.

    Raises
    ------
    MissingDataError, DamagedDataError, ValueError
        Naming the file or the legal values.
    """
    name = "imagenet-c"
    corruption, severity = _check(name, split, corruption, severity)
    top = find(name, root, ["ImageNet-C"], SOURCE)
    folder, remedy = _folder(name, top, corruption, severity, SOURCE)
    files = class_folders.read(folder, imagenet.wnids(), remedy)
    places = [root, top, top.parent, top.parent / "ImageNet", top.parent / "imagenet"]
    name, files = imagenet.choose(name, files, subset, places)
    size = CROP if preprocess == "to_tensor" else None
    how = {"preprocess": preprocess, "size": size, "remedy": remedy}
    key = f"{name} {corruption} {severity}"
    made = class_folders.image_set(name, split, files, imagenet.class_names(), key, **how)
    # the released images are the originals resized and cropped
    steps = ["resize256-bicubic", preprocess]
    return imagenet.with_boxes(made, files, places, steps) if boxes else made


def load_tiny(
    split: str, root: Path, *, corruption: str | None = None, severity: int = 5
) -> ImageSet:
    """Load Tiny-ImageNet-C's 10,000 images under one corruption; they are decoded when indexed.

    The classes come from Tiny-ImageNet's own list: `wnids.txt` (in the root, in `tiny-imagenet-200`
    or in `Tiny-ImageNet-C`) or `tiny-imagenet-classes.tsv`.
    Raises MissingDataError, DamagedDataError or ValueError, naming the file or the legal values.
    """
    name = "tiny-imagenet-c"
    corruption, severity = _check(name, split, corruption, severity)
    top = find(name, root, ["Tiny-ImageNet-C"], TINY_SOURCE)
    places = list(dict.fromkeys([root, top, top.parent]))
    classes = next(filter(None, map(tiny_imagenet.class_names, places)), None)
    if classes is None:
        raise MissingDataError(
            f"{name}: the folders do not say the order of the classes; looked for wnids.txt or "
            f"tiny-imagenet-classes.tsv in {', '.join(map(str, places))}. Get "
            f"tiny-imagenet-200.zip from http://cs231n.stanford.edu/ and unpack it under {root}"
        )
    folder, remedy = _folder(name, top, corruption, severity, TINY_SOURCE)
    files = class_folders.read(folder, list(classes), remedy)
    name = imagenet.counted(name, files, _TINY_IMAGES)
    key, how = f"{name} {corruption} {severity}", {"size": tiny_imagenet.SIZE, "remedy": remedy}
    return class_folders.image_set(name, split, files, list(classes.values()), key, **how)


def _check(name: str, split: str, corruption: str | None, severity: int) -> tuple[str, int]:
    check_split(name, split, ("test",))
    return c_options.check(name, corruption, severity)


def _folder(
    dataset: str, top: Path, corruption: str, severity: int, source: str
) -> tuple[Path, str]:
    """Return the folder that holds those of the classes, and what to do when it is damaged."""
    present = {path.name for path in listing(top)}
    for place in (top, *(top / archive for archive in ARCHIVES if archive in present)):
        folder = place / corruption / str(severity)
        if folder.parent in listing(place):
            if folder.is_dir():
                return folder, f"unpack the archive from {source} again"
            raise MissingDataError(
                f"{dataset}: {folder} is not there; unpack the archive that has {corruption} from "
                f"{source} again"
            )
    raise MissingDataError(
        f"{dataset}: {top} has no folder {corruption}; looked there and in "
        f"{', '.join(ARCHIVES)} below it. Get it from {source} and unpack it there"
    )
