"""Tables in pages, from the committed tables of runs: python docs/findings.py.

The verdicts of notebooks 01 to 04 stand in the README, all of them in figures/verdicts.md; what the
bundled networks can do in tttlib/models/README.md.
"""

from pathlib import Path

import pandas as pd

from tttlib import findings

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "figures"
DATA = {"scenes": "scenes", "Tiny-ImageNet": "tiny_imagenet"}
MODELS = "tttlib/models/README.md"
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
    report = {name: DATA[name] for name in ("scenes", "Tiny-ImageNet")}
    return findings.filled(text, "findings", findings.table(FIGURES, report, REPORT))


def verdicts() -> str:
    return HEAD + findings.markdown(findings.table(FIGURES, DATA)) + "\n"


def models() -> str:
    """The page of models with the table of the bundled ones made again."""
    text = (ROOT / MODELS).read_text(encoding="utf-8")
    table = pd.read_csv(FIGURES / "models_bundled.csv")
    return findings.filled(text, "bundled", table)


PAGES = {"README.md": readme, "figures/verdicts.md": verdicts, MODELS: models}

if __name__ == "__main__":
    for page, made in PAGES.items():
        (ROOT / page).write_text(made(), encoding="utf-8")
