"""Sphinx's settings for the site; its pages are those that docs/pages.py writes."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import tttlib

sys.path.insert(0, str(Path(__file__).parent))
import pages

project, author, release = "tttlib", "The tttlib developers", tttlib.__version__
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Markdown and notebooks
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath", "html_image"]
myst_dmath_allow_space = False  # of $5 and $HOME
myst_heading_anchors = 4
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # of other packages, and code that is no reference
suppress_warnings = ["myst.header"]

# MathJax in one file, out of a wheel: nothing is fetched, by a page or by what it loads
mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax/tex-svg-full.js"

# docstrings: in backticks stands code, a link where it names something of ours
default_role = "py:obj"
highlight_language = "text"
smartquotes = False
napoleon_google_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
python_maximum_signature_line_length = 90
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "tttlib"
html_static_path = ["static", str(mathjax)]
mathjax_path = mathjax.name
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "github_url": "https://github.com/tttlib/tttlib",
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "collapse_navigation": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}


SIGNS = re.compile(r"\|(?=\S)|(?<=[ (/])\*(?=[\w.])(?![^*\n]*\*)|(?<=\w)_(?!\w)")
EQUATIONS = re.compile(r"((?:\n {4}\S.*(?:\n {4}.*)*))")


def legible(_: Any, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Turn a docstring into reStructuredText: indented equations, and |x|, f(*x), x_ elsewhere."""
    head, rule, rest = "\n".join(lines).partition("\n----")  # below the name of the first section
    indented = what in ("module", "function", "method")  # of a class such lines explain a term
    pieces = EQUATIONS.split(head) if indented else [head]
    pieces[::2] = map(escaped, pieces[::2])
    pieces[1::2] = (f"\n\n::\n{equations}\n" for equations in pieces[1::2])
    text = "".join(pieces) + rule + escaped(rest)
    if what == "class":  # `mean, std` is an attribute to napoleon: "std", of the type "mean,"
        before, title, attributes = text.partition("Attributes\n---")
        names = re.compile(r"^\w+(?:, \w+)+$", re.MULTILINE)
        text = before + title + names.sub(lambda found: found[0].replace(", ", ","), attributes)
    lines[:] = [] if text.startswith("Alias for field number") else text.split("\n")


def escaped(text: str) -> str:
    """Return text whose signs mean nothing; of code in backticks only names are references."""
    parts = re.split(r"(``?[^`]+``?)", text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            glued = "\\ " if i and part[:1].isalnum() else ""
            parts[i] = glued + SIGNS.sub(r"\\\g<0>", part)
        elif not part.startswith("``") and not re.fullmatch(r"`[A-Za-z_][\w.]*`", part):
            parts[i] = f"`{part}`"
    return "".join(parts)


def dashed(_: Any, page: nodes.document) -> None:
    """Set the dash after a parameter's name, which `smartquotes` would set, with much else."""
    for text in list(page.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def plain(*event: Any) -> tuple[str, str] | None:
    """Return a signature in which aliases of types stand by their names."""
    signature, returned = event[-2:]
    return signature and (re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", signature), returned)


def setup(app: Sphinx) -> None:
    """Write the pages before Sphinx looks for them; register the functions above."""
    app.connect("config-inited", lambda app, _: pages.write_all(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", legible, priority=400)  # napoleon has 500
    app.connect("autodoc-process-signature", plain)
    app.connect("doctree-read", dashed)
