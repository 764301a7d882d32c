"""Pictures stored in notebooks with 64 colours: python docs/smaller_pictures.py NOTEBOOK …

Committed notebooks stay small, and their figures look the same on a page.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import nbformat
from PIL import Image

COLOURS = 64


def smaller(png: str) -> str:
    """Return a base64 PNG with at most `COLOURS` colours, or the picture itself if that is less."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        paletted = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    made = io.BytesIO()
    paletted.save(made, "PNG", optimize=True)
    return min(base64.b64encode(made.getvalue()).decode(), png, key=len)


def shrink(path: Path) -> None:
    """Replace every PNG output of a notebook by its smaller version."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        shrink(Path(name))
