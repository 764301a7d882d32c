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
import pages  # noqa: E402

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
napoleon_google_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 90
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "tttlib"
html_math_renderer = "mathml"
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


def legible(_: Sphinx, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Turn a docstring's text into reStructuredText: indented equations, |x| and f(*x)."""
    text, section, rest = "\n".join(lines).partition("\n----")  # the first section's rule
    if what in ("module", "function", "method"):  # of a class such lines explain a term
        text = re.sub(r"\n*((?:\n {4}.*)+)(?:\n|\Z)", r"\n\n::\n\1\n\n", text)
    parts = re.split(r"((?:\n {4}.*)+|``?[^`]+``?)", text + section + rest)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            part = re.sub(r"\|(?=\S)|(?<=[ (])\*(?=\w)(?![^*\n]*\*)", r"\\\g<0>", part)
        elif part[0] == "`" != part[1] and not re.fullmatch(r"`[A-Za-z_][\w.]*`", part):
            part = f"`{part}`"  # no reference
        glued = i % 2 == 0 and i and part[:1].isalnum()
        parts[i] = f"\\ {part}" if glued else part
    lines[:] = "".join(parts).split("\n")


def setup(app: Sphinx) -> None:
    """Write the pages before Sphinx looks for them; register the two functions above."""
    app.connect("config-inited", lambda app, _: pages.main(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", legible, priority=400)  # napoleon has 500
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
