"""Files that are no checkpoints although they carry the name of one: what they are instead."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_PACKED |= {b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR"}


def unusable(path: Path, start: bytes) -> str:
    """Say what a file is that PyTorch cannot read, given its first bytes; "" where it might."""
    if not start:
        return "is empty (0 bytes); fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return (
            f"is a Git LFS pointer of {path.stat().st_size} bytes, not the file that it points to; "
            "fetch the file itself (`git lfs pull`, or the download button of its page)"
        )
    if tarfile.is_tarfile(path):
        return "is an archive; unpack it and give the checkpoint inside"
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            return f"is compressed ({name}); unpack it and give the checkpoint inside"
    if start.startswith(b"\x89HDF"):
        return "is an HDF5 file (Keras), which holds no PyTorch weights"
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        return _zip(path)
    if start[:9].isascii() and start[:9].decode().strip().isprintable():
        return (
            f"begins like text ({start[:9].decode()!r}), not like a checkpoint: perhaps a "
            "download page or a pointer was saved in its place; fetch the file itself"
        )
    return ""


def incomplete(path: Path) -> str:
    """Return the message for a file that begins like a checkpoint and cannot be read."""
    return (
        f"{path} is no complete PyTorch or safetensors file ({path.stat().st_size} bytes); "
        "fetch it again and compare its size and checksum with the publisher's"
    )


def _zip(path: Path) -> str:
    """PyTorch's own format is a zip archive with a `data.pkl`; TorchScript has constants, too."""
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:
        return "is a TorchScript program; save `program.state_dict()` and give that file"
    if "data.pkl" not in names:
        return "is a zip archive; unpack it and give the checkpoint inside"
    return ""
