"""Controls move a picture; without anybody to move them there is only the picture."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import ipywidgets
import pytest
from jupyter_client.manager import start_new_kernel
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots import controls, touch

CELL = """
from matplotlib import pyplot as plt
from tttlib.plots import touch

def draw(step=2, name="a"):
    figure, axis = plt.subplots(figsize=(1, 1))
    axis.plot([0, step])
    return figure

touch(draw, step=range(4), name=["a", "b"])
"""
VIEW = "application/vnd.jupyter.widget-view+json"


def test_the_kind_of_a_control_follows_from_its_choices() -> None:
    steps = controls.control("n_steps", range(1, 11, 3), 4)
    assert isinstance(steps, ipywidgets.IntSlider) and steps.description == "n steps"
    assert (steps.min, steps.max, steps.step, steps.value) == (1, 10, 3, 4)
    sizes = controls.control("size", range(0, 101, 10), (0, 30))
    assert isinstance(sizes, ipywidgets.IntRangeSlider) and sizes.value == (0, 30)
    rates = controls.control("lr", [0.001, 0.05, 0.2])
    assert isinstance(rates, ipywidgets.SelectionSlider) and rates.value == 0.001
    assert [word for word, _ in rates.options] == ["0.001", "0.05", "0.2"]
    assert not (steps.continuous_update or sizes.continuous_update or rates.continuous_update)
    words = controls.control("corruption", ["zoom_blur", "fog"], "fog")
    assert isinstance(words, ipywidgets.Dropdown) and words.value == "fog"
    assert [word for word, _ in words.options] == ["zoom blur", "fog"]
    assert controls.control("image", {"0: cat": 0, "1: dog": 1}).label == "0: cat"


def test_what_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(ValueError, match="'lr' has nothing to choose from"):
        controls.control("lr", [])
    with pytest.raises(ValueError, match=r"'lr' starts at 0\.2, which is none"):
        controls.control("lr", [0.1, 0.3], 0.2)
    with pytest.raises(ValueError, match=r"'size' starts at \(0, 15\)"):
        controls.control("size", range(0, 101, 10), (0, 15))


def test_outside_of_a_notebook_the_first_picture_is_drawn_and_closed() -> None:
    asked = []

    def draw(a: str, b: int = 3) -> Figure:
        asked.append((a, b))
        return plt.figure()

    touch(draw, a=["x", "y"], b=range(5))
    assert asked == [("x", 3)] and not plt.get_fignums()
    assert not controls.attended()


def test_a_picture_alone_without_a_front_end_and_one_that_follows_with_it() -> None:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute(CELL, allow_stdin=False)  # as nbclient does
        (alone,) = told(client)["display_data"]
        assert sorted(alone["data"]) == ["image/png", "text/plain"]
        assert alone["data"]["text/plain"] == "step: 2, name: a"

        client.execute(CELL, allow_stdin=True)  # as JupyterLab does
        first = told(client)
        above, picture = first["display_data"]
        assert VIEW in above["data"] and picture["data"] == alone["data"]

        models = {m["data"]["state"]["_model_name"]: m["comm_id"] for m in first["comm_open"]}
        change = {"method": "update", "state": {"value": 3}, "buffer_paths": []}
        moved = {"comm_id": models["IntSliderModel"], "data": change}
        client.shell_channel.send(client.session.msg("comm_msg", moved))
        (again,) = told(client)["update_display_data"]
        assert again["transient"] == picture["transient"]
        assert again["data"]["text/plain"] == "step: 3, name: a"
        assert again["data"]["image/png"] != picture["data"]["image/png"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def told(client: Any) -> dict[str, list[dict[str, Any]]]:
    """What a kernel tells all front ends during one request, by kind of message."""
    seen = defaultdict(list)
    while True:
        message = client.get_iopub_msg(timeout=120)
        kind, content = message["msg_type"], message["content"]
        assert kind != "error", content
        seen[kind].append(content)
        if content.get("execution_state") == "idle":
            return seen
