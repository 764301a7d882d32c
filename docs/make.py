"""The API reference as HTML, from the docstrings: python docs/make.py [FOLDER]."""

import pkgutil
import sys
import warnings
from pathlib import Path

import pdoc
import pdoc.render

import tttlib

HERE = Path(__file__).parent


def modules() -> list[str]:
    """Return every public module, also those that a package's __all__ does not name."""
    names = [module.name for module in pkgutil.walk_packages(tttlib.__path__, "tttlib.")]
    return ["tttlib", *(name for name in names if not name.split(".")[-1].startswith("_"))]


def main(folder: Path) -> None:
    """Write the pages into `folder`."""
    warnings.filterwarnings("ignore", ".* has already been added", UserWarning)
    # pdoc evaluates annotations where a dataclass's __init__ has no module of its own
    warnings.filterwarnings("ignore", "Error parsing type annotation", UserWarning)
    pdoc.render.configure(template_directory=HERE, docformat="numpy", search=True)
    pdoc.pdoc(*modules(), output_directory=folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "runs" / "docs")
