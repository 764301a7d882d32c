"""The verdicts as tables, from the committed tables of claims: python docs/findings.py.

Those of notebooks 01 to 04 stand in the README, all of them in figures/verdicts.md.
"""

from pathlib import Path

from tttlib import findings

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "figures"
DATA = {"scenes": "scenes", "Tiny-ImageNet": "tiny_imagenet"}
REPORT = ["01", "02", "03", "04"]
HEAD = """# Verdicts

Every statement that a notebook decides: *supported* when its whole 95 % interval agrees,
*contradicted* when it disagrees, *undecided* otherwise. Fractions (0.01 is one point), correlations
and ratios as the measure says; differences of errors in notebook 05. `make findings` writes this
page from the `*_claims_*.csv` beside it.

"""


def readme() -> str:
    """The README with its table made again."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return findings.filled(text, findings.table(FIGURES, DATA, REPORT))


def verdicts() -> str:
    return HEAD + findings.markdown(findings.table(FIGURES, DATA)) + "\n"


if __name__ == "__main__":
    for path, text in {ROOT / "README.md": readme(), FIGURES / "verdicts.md": verdicts()}.items():
        path.write_text(text, encoding="utf-8")
