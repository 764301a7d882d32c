"""Controls and a picture that follows them; where nobody can move them, the picture alone."""

from __future__ import annotations

import inspect
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from numbers import Real
from typing import Any

import ipywidgets
from IPython.core.getipython import get_ipython
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.style import pretty

Choices = Sequence[Any] | Mapping[str, Any]
_WIDE = {"layout": {"width": "460px"}, "style": {"description_width": "90px"}}
_MOVING = {"continuous_update": False}  # a picture is drawn when a handle is let go


def touch(draw: Callable[..., Figure], **choices: Choices) -> None:
    """Show the picture of `draw`'s first values, below controls if somebody can move them.

    The picture is an ordinary PNG output, which every page that is made of a notebook shows. Moving
    a control replaces it. nbconvert, papermill and the like get no controls; outside of a notebook
    the picture is drawn and not shown.

    Parameters
    ----------
    draw
        Takes one keyword for each control and returns a figure, which is closed.
    choices
        What a keyword can be, see `control`. It starts at its default in `draw`, else at the first.

    Raises
    ------
    ValueError
        For a control without choices, or one that starts at something else.
    """
    starts = {name: one.default for name, one in inspect.signature(draw).parameters.items()}
    controls = {}
    for name, values in choices.items():
        start = starts.get(name, inspect.Parameter.empty)
        controls[name] = control(name, values, *[start] * (start is not inspect.Parameter.empty))
    follow(draw, controls, attended())


def follow(
    draw: Callable[..., Figure], controls: Mapping[str, ipywidgets.Widget], live: bool
) -> None:
    """Show the picture of the controls' values; if `live`, below them, and again when one moves."""

    def bundle() -> dict[str, str]:
        values = {name: one.value for name, one in controls.items()}
        said = ", ".join(f"{pretty(name)}: {value}" for name, value in values.items())
        return {"image/png": b64encode(_png(draw(**values))).decode(), "text/plain": said}

    picture = bundle()
    if get_ipython() is None:
        return
    if live:
        display(ipywidgets.VBox([*controls.values()]))
    shown = display(picture, raw=True, display_id=True)
    for one in controls.values():
        one.observe(lambda change: shown.update(bundle(), raw=True), names="value")


def control(name: str, values: Choices, *start: Any) -> ipywidgets.Widget:
    """Return a slider for a range or for numbers, and a menu for anything else.

    Parameters
    ----------
    name
        What stands beside it.
    values
        A range of whole numbers, numbers, other values, or their names -> values.
    start
        One of them; by default the first. A pair gives the slider of a range two handles.

    Raises
    ------
    ValueError
        For no values, or a start that is none of them.
    """
    named = values if isinstance(values, Mapping) else {_word(value): value for value in values}
    if not named:
        raise ValueError(f"the control {name!r} has nothing to choose from; give it values")
    first = start[0] if start else next(iter(named.values()))
    pair = isinstance(values, range) and isinstance(first, tuple)
    if any(one not in named.values() for one in (first if pair else [first])):
        raise ValueError(f"the control {name!r} starts at {first!r}, which is none of its values")
    look = {"value": first, "description": pretty(name), **_WIDE}
    if isinstance(values, range):
        kind = ipywidgets.IntRangeSlider if pair else ipywidgets.IntSlider
        return kind(min=values[0], max=values[-1], step=values.step, **look, **_MOVING)
    if not isinstance(values, Mapping) and all(isinstance(value, Real) for value in values):
        return ipywidgets.SelectionSlider(options=list(named.items()), **look, **_MOVING)
    return ipywidgets.Dropdown(options=list(named.items()), **look)


def attended() -> bool:
    """Return whether a front end that can ask its user, such as JupyterLab, runs this cell.

    The protocol's requests say so: `allow_stdin` is false in those of nbclient, which executes
    for nbconvert, papermill and the site.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    request = kernel.get_parent("shell") if kernel else {}
    return bool(request.get("content", {}).get("allow_stdin"))


def _word(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else pretty(str(value))


def _png(figure: Figure) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()
