"""The examples of the page run, and its table has every method."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from tttlib import adapt
from tttlib.models import zoo

PAGE = Path(adapt.__file__).with_name("README.md")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_use() -> None:
    names: dict[str, object] = {}
    exec(EXAMPLES[0], names)
    assert 0 <= int(names["wrong"]) < 200  # type: ignore[call-overload]


def test_a_method_of_your_own(methods_forgotten: None) -> None:
    exec(compile(EXAMPLES[1], "even.py", "exec"), {"__name__": __name__})
    adapter = adapt.create("even", zoo.load("wrn-scenes"), lr=0.01)
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first, second = adapter(images), adapter(images)
    assert first.shape == (8, 10) and not torch.equal(first, second)
    share = [logits.softmax(1).mean(0) for logits in (first, second)]
    assert share[1].std() < share[0].std()  # closer to an even share


def test_every_method_is_in_the_table() -> None:
    rows = re.findall(
        r"^\| \[`(\w+)`\]\((\w+).py\)", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [name for name, _ in rows] == list(adapt.NAMES)
    assert all(name == file for name, file in rows)
