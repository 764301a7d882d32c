"""The HTML report of a run, and the committed figures.

`page` fills the template ``page.html.jinja2`` with what a run holds, `executed_notebooks` and
`figures` prepare its parts, and `publish` copies figures and tables of a run into the repository.
"""

from tttlib.report.page import write

__all__ = ["write"]
