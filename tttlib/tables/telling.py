"""Findings where a reader looks for them: below each figure, and at the head of the notebook."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tttlib.plots.saving import show
from tttlib.tables import answers
from tttlib.tables.claims import Claim


def answer(*claims: Claim) -> None:
    """Show what became of predictions, with their numbers; a notebook calls it below a figure."""
    text = answers.listed(claims)
    show({"text/markdown": text, "text/plain": text})


class Opening:
    """A place at the head of a notebook that is filled when its end is known.

    The cell that makes it keeps the place; `tell` at the end of the notebook fills it, in the
    stored notebook as well (the display is updated, not repeated).
    """

    def __init__(self) -> None:
        self._text, self._figure = uuid4().hex, uuid4().hex
        waiting = "*What was found will stand here when all cells have run.*"
        show({"text/markdown": waiting, "text/plain": waiting}, display_id=self._text)
        show({"text/plain": ""}, display_id=self._figure)

    def tell(
        self, claims: Sequence[Claim], names: Sequence[str], run_dir: str | Path, figure: str
    ) -> None:
        """Say what the claims called `names` came to, and show the figure saved as `figure`.

        No such figure in the run's folder raises a FileNotFoundError.
        """
        picture = (Path(run_dir) / "figures" / f"{figure}.png").read_bytes()
        text = answers.story(claims, names)
        show({"text/markdown": text, "text/plain": text}, display_id=self._text, update=True)
        page = {"image/png": b64encode(picture).decode(), "text/plain": figure}
        show(page, display_id=self._figure, update=True)
