"""Tables in pages, from the committed tables of runs: python docs/findings.py.

The verdicts of all notebooks stand in figures/verdicts.md; what the bundled networks can do in
tttlib/models/README.md, and what adaptation methods do to real images in tttlib/adapt/README.md.
"""

from pathlib import Path

import pandas as pd

from tttlib import adapt, results
from tttlib.tables import method_declarations, verdict_tables

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "figures"
CIFAR, CIFAR_ABLATIONS, TINY = "cifar10_jpeg", "cifar10_jpeg_1000", "tiny_imagenet_100"  # of 05
DATA = {
    "scenes (02, 03, 06: scenes-calm)": "scenes",
    "scenes, small digits": "scenes_busy",
    "Tiny-ImageNet": ["tiny_imagenet", TINY],
    "CIFAR-10": [CIFAR_ABLATIONS],
    "ImageNet sample": ["imagenet_sample"],
}
IN_PAPER = "in the paper, %"
IN_TABLES = {  # our name of a setting -> the published table's
    **{f"lambda {x}": f"consistency={x}" for x in ("0", "0.1", "1")},
    **{name: f"optimizer={name}" for name in ("lars", "prodigy", "adafactor")},
    "pseudo-labels": "importance=pseudo-label",
}
MODELS, ADAPT = "tttlib/models/README.md", "tttlib/adapt/README.md"
HEAD = """# Verdicts

Every statement that a notebook decides: *supported* when its whole 95 % interval agrees,
*contradicted* when it disagrees, *negligible* when it lies within one point on both sides of zero,
*undecided* otherwise ([what this rule changed](verdict_rule.md)). A replication report of TTT-MAE
made the statements of notebooks 01 to 04 on ImageNet-C with a ViT-L, one run each and without
intervals; those of notebook 05 are PALM's. Fractions (0.01 is one point), correlations and ratios
as the measure says; differences of errors in notebook 05. The first column is `make study`, the
second what notebooks 02, 03 and 06 said of the first composition of the scenes
([the ladder](mae_ladder.md)). `make findings` writes this page from the `*_claims_*.csv` beside it.

"""


def verdicts() -> str:
    """Return the page of all verdicts."""
    return HEAD + verdict_tables.markdown(verdict_tables.table(FIGURES, DATA)) + "\n"


def models() -> str:
    """Return the page of models with the table of the bundled ones made again."""
    text = (ROOT / MODELS).read_text(encoding="utf-8")
    table = pd.read_csv(FIGURES / "models_bundled.csv")
    return verdict_tables.filled(text, "bundled", table)


def adaptation() -> str:
    """Return the page of adaptation methods with its tables made again."""
    text = (ROOT / ADAPT).read_text(encoding="utf-8")
    tables = {
        "declarations": needs(),
        "continual": continual(CIFAR),
        "others": others(CIFAR),
        "continual, Tiny-ImageNet": continual(TINY).drop(columns=IN_PAPER),  # that is CIFAR-10's
        "others, Tiny-ImageNet": others(TINY).drop(columns=IN_PAPER),
        "continual, ImageNet": continual("imagenet_sample"),
        "ablations": ablations(),
        "deviations": changes("deviations"),
        "cost": cost(),
        "speed": speed(),
    }
    for mark, table in tables.items():
        text = verdict_tables.filled(text, mark, table)
    return text


def needs() -> pd.DataFrame:
    """Tabulate what methods train and need, as their classes declare it, with their papers."""
    table = method_declarations.declarations()
    link = "[" + table["paper"] + "](" + table["address"] + ")"
    table["paper"] = link.where(table["address"] != "", table["paper"])
    return table[["method", "trains", "needs", "paper"]]


def continual(suffix: str) -> pd.DataFrame:
    """Tabulate streams of one corruption after the other, by method."""
    names = ("continual", "differences", "forgetting")
    errors, differences, forgetting = (_measured(name, suffix) for name in names)
    to_palm = differences[differences["reference"] == "palm"]
    columns = {
        "method": errors.index,
        "error, %": _percent(errors["mean"]),
        "error minus PALM's": _points(to_palm, errors.index),
        "clean error after minus source's": _points(forgetting, errors.index),
        IN_PAPER: _percent(errors["published"]),
    }
    return pd.DataFrame(columns)


def others(suffix: str) -> pd.DataFrame:
    """Tabulate gradual and mixed streams, by method."""
    names = ("gradual", "mixed", "other_streams")
    gradual, mixed, differences = (_measured(name, suffix) for name in names)
    gradual = gradual.sort_values("all, mean")
    to_palm = {name: part for name, part in differences.groupby("setting")}
    columns = {
        "method": gradual.index,
        "gradual, %": _percent(gradual["all, mean"]),
        "minus PALM's": _points(to_palm["gradual"], gradual.index),
        IN_PAPER: _percent(gradual["published"]),
        "mixed, %": _percent(mixed["mean"].reindex(gradual.index)),
        "mixed minus PALM's": _points(to_palm["mixed"], gradual.index),
    }
    return pd.DataFrame(columns)


def changes(name: str) -> pd.DataFrame:
    """Tabulate what one changed setting does to PALM's error, in points, by dataset."""
    measured = {
        "CIFAR-10": _measured(name, CIFAR_ABLATIONS),
        "Tiny-ImageNet": _measured(name, TINY),
    }
    settings = measured["CIFAR-10"].index
    columns: dict[str, object] = {"changed": settings}
    for data, rows in measured.items():
        columns[data] = _points(rows, settings)
        if "share selected" in rows:
            share = 100 * rows["share selected"].reindex(settings)
            columns[f"selected on {data}, %"] = _percent(share).to_numpy()
    return pd.DataFrame(columns)


def ablations() -> pd.DataFrame:
    """Add the published changes of CIFAR-10-C (PALM, tables 6 to 8) to our own."""
    known = results.published("palm_ablations")
    known = known[(known["dataset"] == "cifar10-c") & (known["metric"] == "error")]
    errors = known.set_index("variant")["value"]
    table, palm = changes("ablations"), errors["importance=kl"]
    theirs = [errors.get(IN_TABLES.get(setting)) for setting in table["changed"]]
    return table.assign(
        **{"in the paper": ["" if e is None else f"{e - palm:+.1f}" for e in theirs]}
    )


def cost() -> pd.DataFrame:
    """Tabulate time in forward passes, arithmetic and memory of each method, on one network."""
    network = "wrn-cifar10-jpeg"
    times = pd.read_csv(FIGURES / "bench_palm.csv")
    times = times[times["network"] == network].drop_duplicates("method").set_index("method")
    memory = pd.read_csv(FIGURES / "bench_memory.csv").set_index("method")
    methods = [name for name in adapt.NAMES if name in times.index or name in memory.index]
    times, memory = times.reindex(methods), memory.reindex(methods)
    spread = times[["forwards", "forwards, low", "forwards, high"]].to_numpy()
    return pd.DataFrame(
        {
            "method": methods,
            "forward passes": [
                "" if pd.isna(m) else f"{m:.1f} ({a:.1f} to {b:.1f})" for m, a, b in spread
            ],
            "GFLOP an image": times["GFLOP"].map(lambda x: "" if pd.isna(x) else f"{x:.2f}"),
            "kept, MB": _percent(memory["kept"]),
            "peak, MB": memory["peak"].map("{:.0f}".format),
            "growth, MB": _percent(memory["growth"]),
        }
    )


def speed() -> pd.DataFrame:
    """Tabulate the speed of PALM against its plain form."""
    rows = pd.read_csv(FIGURES / "bench_palm.csv").query("method == 'palm'")
    return pd.DataFrame(
        {
            "network": rows["network"],
            "images": rows["images"],
            "eta": rows["threshold"],
            "share moving, %": _percent(100 * rows["share moving"]),
            "plain : ours, time": [
                f"{m:.2f} ({a:.2f} to {b:.2f})"
                for m, a, b in rows[["ratio", "ratio, low", "ratio, high"]].to_numpy()
            ],
            "plain : ours, arithmetic": rows["GFLOP ratio"].map("{:.2f}".format),
            "largest difference of a logit": rows["difference"].map("{:.0e}".format),
        }
    )


def _measured(name: str, suffix: str) -> pd.DataFrame:
    table = pd.read_csv(FIGURES / f"05_{name}_{suffix}.csv").set_index("method")
    return table.sort_values("mean") if "mean" in table else table


def _percent(values: pd.Series) -> pd.Series:
    return values.map(lambda value: "" if pd.isna(value) else f"{value:.1f}")


def _points(rows: pd.DataFrame, methods: pd.Index) -> list[str]:
    """Return differences of fractions as points with their intervals; "" for a method without."""
    texts = {
        str(method): "{:+.1f} [{:+.1f}, {:+.1f}]".format(
            *100 * row[["difference", "low", "high"]].astype(float)
        )
        for method, row in rows.iterrows()
    }
    return [texts.get(method, "") for method in methods]


PAGES = {
    "figures/verdicts.md": verdicts,
    MODELS: models,
    ADAPT: adaptation,
}

if __name__ == "__main__":
    for page, made in PAGES.items():
        (ROOT / page).write_text(made(), encoding="utf-8")
