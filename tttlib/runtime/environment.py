"""What a number was computed with: the commit of the code, the versions and the device."""

from __future__ import annotations

import contextlib
import functools
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from tttlib import __version__

_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")


@functools.cache
def describe() -> dict[str, Any]:
    """Return code version, libraries and hardware of this process.

    The git state is that of the first call.
    """
    import torch

    cuda = torch.cuda.is_available()
    sha, dirty = git_state()
    return {
        "git_sha": sha,
        "git_dirty": dirty,
        "tttlib": __version__,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _LIBRARIES},
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {_processor()}",
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that holds this package, and whether tracked files differ.

    Both are None if the package is installed elsewhere or git cannot be asked.
    """
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None, None  # installed into some other project's checkout
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _processor() -> str:
    """Return the model name of the CPU, or what the system says instead."""
    with contextlib.suppress(OSError):
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if name := re.search(r"^model name\s*:(.*)", told, flags=re.MULTILINE):
            return name[1].strip()
    return platform.processor() or platform.machine()
