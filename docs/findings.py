"""The README's table of verdicts, from the committed tables of claims: python docs/findings.py."""

from pathlib import Path

import pandas as pd

from tttlib import findings

ROOT = Path(__file__).resolve().parents[1]
REPORT = {"scenes": "scenes", "Tiny-ImageNet": "tiny_imagenet"}


def made() -> pd.DataFrame:
    return findings.table(ROOT / "figures", REPORT, ["01", "02", "03", "04"])


if __name__ == "__main__":
    findings.write(ROOT / "README.md", made())
