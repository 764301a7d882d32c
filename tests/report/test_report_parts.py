"""Verdicts and figures of the report."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tttlib import results
from tttlib.report import html_parts
from tttlib.tables import claims


def test_decided_claims_come_first_and_open_ones_are_folded(tmp_path: Path) -> None:
    found = [
        claims.Claim(
            "noise < blur",
            0.2,
            0.1,
            0.3,
            n=5,
            unit="images",
            expected="above",
            measure="r of <area>",
        ),
        claims.Claim("open", 0.0, -0.1, 0.1, n=5, unit="images", expected="above"),
    ]
    claims.keep(results.Store(tmp_path / "results"), {"notebook": "03"}, found)
    page = html_parts.verdicts(tmp_path, {"03": "nb-03_x"})
    assert "1 of 2 statements are decided" in page
    assert page.index("noise &lt; blur") < page.index("<details>") < page.index("<td>open</td>")
    assert '<span class="note">r of &lt;area&gt;</span>' in page
    assert '<a href="#nb-03_x">03</a>' in page and "+0.200 [+0.100, +0.300]" in page


def test_a_run_without_claims_or_figures_has_no_such_parts(tmp_path: Path) -> None:
    assert html_parts.verdicts(tmp_path, {}) == ""
    assert html_parts.gallery(tmp_path, {}) == "" and html_parts.headline(tmp_path) == ""


def test_figures_are_grouped_by_notebook(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("02_b", "01_a", "02_a"):
        Image.new("RGB", (320, 10)).save(tmp_path / "figures" / f"{name}.png", dpi=(160, 160))
    page = html_parts.gallery(tmp_path, {"01": ("nb-01", "First")})
    assert page.index('<h3><a href="#nb-01">First') < page.index('alt="01 a"')
    assert page.index('alt="01 a"') < page.index("<h3>Notebook 02") < page.index('alt="02 a"')
    assert page.count("<h3>") == 2
    assert page.count(' width="220" ') == 3  # 2 inches
