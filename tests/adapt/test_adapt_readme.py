"""The examples of the page run, and its table has every method."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
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


def test_the_measured_table_is_the_committed_one() -> None:
    figures = PAGE.parents[2] / "figures"
    errors, differences, forgetting = (
        pd.read_csv(figures / f"05_{name}_cifar10_jpeg.csv").set_index("method")
        for name in ("continual", "differences", "forgetting")
    )
    to_palm = differences[differences["reference"] == "palm"]
    text = PAGE.read_text(encoding="utf-8").split("## What was measured")[1].split("\n## ")[0]
    lines = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    found = {cells[0].split()[0]: [cell.strip() for cell in cells] for cells in lines[1:]}
    assert set(found) == set(errors.index)
    for method, cells in found.items():
        assert cells[1] == f"{errors.loc[method, 'mean']:.1f}"
        for table, cell in ((to_palm, cells[2]), (forgetting, cells[3])):
            if method not in table.index:
                assert cell == ""
                continue
            numbers = (100 * table.loc[method, ["difference", "low", "high"]]).tolist()
            assert [float(x) for x in re.findall(r"[-+][\d.]+", cell)] == pytest.approx(
                numbers, abs=0.051
            )
