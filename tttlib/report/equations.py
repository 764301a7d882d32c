r"""Equations of Markdown as MathML, which browsers show without a script or a font to fetch."""

from __future__ import annotations

import re

_CODE_OR_MATH = re.compile(
    r"(?P<code>```.*?```|`[^`]*`)|\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\s][^$\n]*)\$",
    re.DOTALL,
)


class Equations:
    """Takes equations out of texts in Markdown and puts them into the page made of these."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def taken_out(self, text: str) -> str:
        """Return the text with a mark in place of each $…$ and $$…$$ outside of code."""
        return _CODE_OR_MATH.sub(self._mark, text)

    def put_back(self, page: str) -> str:
        """Return the page with MathML in place of the marks."""
        return re.sub(r"equation-(\d+)-here", lambda mark: self._found[int(mark[1])], page)

    def _mark(self, match: re.Match[str]) -> str:
        from latex2mathml.converter import convert

        if match["code"]:
            return match[0]
        block = match["block"] is not None
        latex = match["block"] if block else match["inline"]
        self._found.append(convert(latex, display="block" if block else "inline"))
        return f"equation-{len(self._found) - 1}-here"
