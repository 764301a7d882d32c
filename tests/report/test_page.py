"""The page of a run: verdicts, figures, notebooks, and nothing that a name could smuggle in."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_notebook import write_notebook

from tttlib import report, results
from tttlib.report import page
from tttlib.tables import answers, claims

RECORD: dict[str, Any] = {
    "tttlib": "0",
    "started": "then",
    "finished": "later",
    "wall_seconds": 2.0,
    "seconds": {"03_x": 1.4},
    "peak_memory_bytes": None,
    "parameters": {"steps": "<7>"},
    "environment": {
        **{"device": "cpu", "threads": 1, "notebooks_at_once": 1, "platform": "p"},
        **{"git_sha": None, "git_dirty": None, "python": "3", "versions": {}},
    },
}
HOSTILE = "\"'><img src=x onerror=alert(1)>&"
OPEN = {"n": 5, "unit": "images", "expected": "above"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in ("figures", "tables", "notebooks"):
        (tmp_path / name).mkdir()
    return tmp_path


def notebook(run: Path, name: str, text: str = "# Title") -> Path:
    return write_notebook(run / "notebooks" / name, text=text)


def keep(run: Path, number: str, *kept: claims.Claim) -> None:
    claims.keep(results.Store(run / "results"), {"notebook": number}, kept)


def figure(run: Path, name: str) -> None:
    Image.new("RGB", (320, 10)).save(run / "figures" / f"{name}.png", dpi=(160, 160))


def test_what_was_decided_comes_first_in_words_and_open_ones_are_folded(run: Path) -> None:
    decided = claims.Claim("noise < blur", 0.2, 0.1, 0.3, measure="r of <area>", **OPEN)
    undecided = claims.Claim("open", 0.0, -0.1, 0.1, **OPEN)
    keep(run, "03", undecided, decided)
    figure(run, "03_a")
    text = page.render(run, RECORD, [notebook(run, "03_x.ipynb", "# The title")])
    assert "1 of 2 statements are decided" in text
    first, second = (html.escape(answers.statement(claim)) for claim in (decided, undecided))
    assert f"<li>{first}: <strong>held</strong>.</li>" in text
    assert f"<li>{second}: <strong>cannot be decided with n = 5</strong>.</li>" in text
    parts = [first, "<details>", second, "</details>", "<td>noise &lt; blur<br>", "<figure>"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert text.count('<h3><a href="#nb-03_x">The title</a></h3>') == 3  # decided, not, figures
    assert '<span class="note">r of &lt;area&gt;</span>' in text
    assert '<a href="#nb-03_x">03</a>' in text and "+0.200 [+0.100, +0.300]" in text
    assert "executed in 1 s" in text and "steps = &lt;7&gt;" in text


def test_a_run_without_claims_or_figures_has_no_such_parts(run: Path) -> None:
    text = page.render(run, RECORD, [])
    assert re.findall(r'<section id="(\w+)"', text) == ["run"]
    assert re.findall(r'<a href="#(\w+)"', text) == ["run"]


def test_figures_are_grouped_by_notebook(run: Path) -> None:
    for name in ("02_b", "01_a", "02_a"):
        figure(run, name)
    text = page.render(run, RECORD, [notebook(run, "01.ipynb", "# First")])
    assert text.index('<h3><a href="#nb-01">First') < text.index('alt="01 a"')
    assert text.index('alt="01 a"') < text.index("<h3>Notebook 02") < text.index('alt="02 a"')
    assert text.count("<h3>") == 2
    assert text.count(' width="220" ') == 3  # 2 inches


def test_names_and_texts_cannot_add_markup(run: Path) -> None:
    keep(run, HOSTILE, claims.Claim(HOSTILE, 0.2, 0.1, 0.3, measure=HOSTILE, **OPEN))
    name = "04_" + HOSTILE.replace("/", "")
    figure(run, name)
    (run / "tables" / f"{name}.csv").write_text("x\n1\n")
    record = {**RECORD, "tttlib": HOSTILE, "parameters": {HOSTILE: HOSTILE}}
    paths = [notebook(run, f"{name}.ipynb", "# 1 < 2"), notebook(run, "05 & 6#?.ipynb")]
    path = report.write(run, record, paths)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<img src=x|<b>", text) and text.count("onerror=alert(1)&gt;") > 8
    assert 'href="notebooks/05%20%26%206%23%3F.ipynb"' in text
    links = re.findall(r'href="((?:notebooks|tables)/[^"]+)"', text)
    assert len(links) == 3 and not any(set(link) & set("<>'& #?") for link in links)
