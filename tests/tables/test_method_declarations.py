"""The table of what methods declare."""

from __future__ import annotations

import pytest

from tttlib import adapt
from tttlib.tables import method_declarations


def test_rows_by_hand() -> None:
    rows = method_declarations.declarations().set_index("method")
    assert list(rows.index) == list(adapt.NAMES)
    assert rows.loc["tent", "trains"] == "scale and shift of normalisation layers"
    assert rows.loc["lame", "trains"] == "nothing"
    assert rows.loc["lame", "needs"] == "several images, last linear layer"
    assert rows.loc["rotation", "needs"] == "self-supervision" and not rows.loc["law", "needs"]
    papers = {
        "tent": ("Wang et al., ICLR 2021", "https://arxiv.org/abs/2006.10726"),
        "palm": ("Maharana, Zhang and Guo, AAAI 2025", "https://arxiv.org/abs/2403.10650"),
        "bn1": ("Nado et al., 2020", "https://arxiv.org/abs/2006.10963"),
        "t3a": ("Iwasawa and Matsuo, NeurIPS 2021", ""),
        "source": ("", ""),
        "palm_ttt": ("", ""),
    }
    for name, paper in papers.items():
        assert tuple(rows.loc[name, ["paper", "address"]]) == paper


def test_every_method_names_its_paper() -> None:
    rows = method_declarations.declarations().set_index("method")
    assert set(rows.index[rows["paper"] == ""]) == {"source", "palm_ttt"}


def test_markdown() -> None:
    rows = method_declarations.declarations(["source", "neo"])
    assert method_declarations.markdown(rows, "adapt/") == (
        "| method | trains | needs | answer | paper |\n"
        "|---|---|---|---|---|\n"
        "| [`source`](adapt/source.py) | nothing |  | of the network as it is |  |\n"
        "| [`neo`](adapt/neo.py) | nothing | last linear layer | of the source network on "
        "re-centred features, this batch's counted | [Murphy et al., ICLR 2026]"
        "(https://arxiv.org/abs/2510.05635) |\n"
    )


def test_unknown_methods() -> None:
    with pytest.raises(ValueError, match="unknown methods TENT; known are source"):
        method_declarations.declarations(["TENT", "tent"])
