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
from tttlib.data.image_files import FileImages
from tttlib.data.imageset import ImageSet, check_split
from tttlib.data.lookup import find, listing
from tttlib.runtime.errors import MissingDataError
from tttlib.runtime.paths import data_root

ARCHIVES = ("noise", "blur", "weather", "digital", "extra")
SOURCE = "https://zenodo.org/records/2235448 (noise, blur, weather, digital, extra .tar)"
TINY_SOURCE = "https://zenodo.org/records/2536630 (Tiny-ImageNet-C.tar)"
_TINY_IMAGES = 10_000


def load(
    split: str,
    root: str | Path | None = None,
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
    split = check_split("imagenet-c", split, ("test",))
    corruption, severity = c_options.check("imagenet-c", corruption, severity)
    base = data_root(root)
    top = find("imagenet-c", base, ["ImageNet-C"], SOURCE)
    folder = _folder("imagenet-c", top, corruption, severity, SOURCE)
    remedy = f"unpack the archive from {SOURCE} again"
    files = class_folders.read(folder, imagenet.wnids(), remedy)
    places = [base, top, top.parent, *(top.parent / name for name in ("ImageNet", "imagenet"))]
    name, files = imagenet.choose("imagenet-c", files, subset, places)
    size = CROP if preprocess == "to_tensor" else None
    images = FileImages([path for path, _ in files], preprocess, size, remedy)
    key = f"{name} {corruption} {severity}"
    made = class_folders.image_set(name, split, files, images, imagenet.class_names(), key)
    # the released images are the originals resized and cropped
    steps = ["resize256-bicubic", preprocess]
    return imagenet.with_boxes(made, files, places, steps) if boxes else made


def load_tiny(
    split: str, root: str | Path | None = None, *, corruption: str | None = None, severity: int = 5
) -> ImageSet:
    """Load Tiny-ImageNet-C's 10,000 images under one corruption; they are decoded when indexed.

    The classes come from Tiny-ImageNet's own list: `wnids.txt` (in the root, in `tiny-imagenet-200`
    or in `Tiny-ImageNet-C`) or `tiny-imagenet-classes.tsv`.
    Raises MissingDataError, DamagedDataError or ValueError, naming the file or the legal values.
    """
    name = "tiny-imagenet-c"
    split = check_split(name, split, ("test",))
    corruption, severity = c_options.check(name, corruption, severity)
    base = data_root(root)
    top = find(name, base, ["Tiny-ImageNet-C"], TINY_SOURCE)
    places = [base, top, top.parent]
    lists = (tiny_imagenet.class_names(place) for place in places)
    classes = next((names for names in lists if names), None)
    if classes is None:
        looked = ", ".join(str(place) for place in dict.fromkeys(places))
        raise MissingDataError(
            f"{name}: the folders do not say the order of the classes; looked for wnids.txt or "
            f"tiny-imagenet-classes.tsv in {looked}. Get tiny-imagenet-200.zip from "
            f"http://cs231n.stanford.edu/ and unpack it under {base}"
        )
    folder = _folder(name, top, corruption, severity, TINY_SOURCE)
    remedy = f"unpack the archive from {TINY_SOURCE} again"
    files = class_folders.read(folder, list(classes), remedy)
    paths = [path for path, _ in files]
    images = FileImages(paths, "to_tensor", tiny_imagenet.SIZE, remedy)
    if len(files) != _TINY_IMAGES:
        name = f"{name} ({len(files)} of {_TINY_IMAGES} images)"
    key = f"{name} {corruption} {severity}"
    return class_folders.image_set(name, split, files, images, list(classes.values()), key)


def _folder(dataset: str, top: Path, corruption: str, severity: int, source: str) -> Path:
    """Return the folder of one corruption and severity, which holds those of the classes."""
    present = {entry.name for entry in listing(top)}
    for place in (top, *(top / archive for archive in ARCHIVES if archive in present)):
        if corruption in {entry.name for entry in listing(place)}:
            folder = place / corruption / str(severity)
            if folder.is_dir():
                return folder
            raise MissingDataError(
                f"{dataset}: {folder} is not there; unpack the archive that has {corruption} from "
                f"{source} again"
            )
    raise MissingDataError(
        f"{dataset}: {top} has no folder {corruption}; looked there and in "
        f"{', '.join(ARCHIVES)} below it. Get it from {source} and unpack it there"
    )
