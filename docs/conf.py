"""Sphinx's settings for the site; its pages are those that docs/pages.py writes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
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
myst_heading_anchors = 4
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # of other packages, and code that is no reference
suppress_warnings = ["myst.header"]

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
html_math_renderer = "mathml"
html_static_path = ["static"]
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


def inline(self: Any, node: nodes.math) -> None:
    """Write math within a line as MathML, which browsers show without a script."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    r"""Write displayed math; \tag{1} is its number."""
    tags = re.findall(r"\\tag\{(.*?)\}", node.astext())
    number = f'<span class="eqno">({", ".join(tags)})</span>' if tags else ""
    math = convert(re.sub(r"\\tag\{.*?\}", "", node.astext()), display="block")
    self.body.append(self.starttag(node, "div", CLASS="math") + number + math + "</div>\n")
    raise nodes.SkipNode


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


def setup(app: Sphinx) -> None:
    """Write the pages before Sphinx looks for them; register the two functions above."""
    app.connect("config-inited", lambda app, _: pages.write_all(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", legible, priority=400)  # napoleon has 500
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
