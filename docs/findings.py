"""Tables in pages, from the committed tables of runs: python docs/findings.py.

The verdicts of notebooks 01 to 04 stand in the README, all of them in figures/verdicts.md; what the
bundled networks can do in tttlib/models/README.md, and what adaptation methods do to CIFAR-10 in
tttlib/adapt/README.md.
"""

from pathlib import Path

import pandas as pd

from tttlib import findings

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "figures"
DATA = {"scenes": "scenes", "Tiny-ImageNet": "tiny_imagenet"}
MODELS, ADAPT = "tttlib/models/README.md", "tttlib/adapt/README.md"
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


def adaptation() -> str:
    """The page of adaptation methods with both tables made again."""
    text = (ROOT / ADAPT).read_text(encoding="utf-8")
    return findings.filled(findings.filled(text, "continual", continual()), "others", others())


def continual() -> pd.DataFrame:
    """One corruption after the other: notebook 05 on CIFAR-10."""
    errors, differences, forgetting = map(_measured, ("continual", "differences", "forgetting"))
    to_palm = differences[differences["reference"] == "palm"]
    return pd.DataFrame(
        {
            "method": errors.index,
            "error, %": _percent(errors["mean"]),
            "error minus PALM's": _points(to_palm, errors.index),
            "clean error after minus source's": _points(forgetting, errors.index),
            "in the paper, %": _percent(errors["published"]),
        }
    )


def others() -> pd.DataFrame:
    """Gradual and mixed streams: notebook 05 on CIFAR-10."""
    gradual, mixed, differences = map(_measured, ("gradual", "mixed", "other_streams"))
    gradual = gradual.sort_values("all, mean")
    to_palm = {name: part for name, part in differences.groupby("setting")}
    return pd.DataFrame(
        {
            "method": gradual.index,
            "gradual, %": _percent(gradual["all, mean"]),
            "minus PALM's": _points(to_palm["gradual"], gradual.index),
            "in the paper, %": _percent(gradual["published"]),
            "mixed, %": _percent(mixed["mean"]),
            "mixed minus PALM's": _points(to_palm["mixed"], gradual.index),
        },
        index=gradual.index,
    )


def _measured(name: str) -> pd.DataFrame:
    table = pd.read_csv(FIGURES / f"05_{name}_cifar10_jpeg.csv").set_index("method")
    return table.sort_values("mean") if "mean" in table else table


def _percent(values: pd.Series) -> pd.Series:
    return values.map(lambda value: "" if pd.isna(value) else f"{value:.1f}")


def _points(rows: pd.DataFrame, methods: pd.Index) -> list[str]:
    """Differences of fractions in points, with their intervals; empty for a method without one."""
    texts = {
        str(method): "{:+.1f} [{:+.1f}, {:+.1f}]".format(
            *100 * row[["difference", "low", "high"]].astype(float)
        )
        for method, row in rows.iterrows()
    }
    return [texts.get(method, "") for method in methods]


PAGES = {
    "README.md": readme,
    "figures/verdicts.md": verdicts,
    MODELS: models,
    ADAPT: adaptation,
}

if __name__ == "__main__":
    for page, made in PAGES.items():
        (ROOT / page).write_text(made(), encoding="utf-8")
