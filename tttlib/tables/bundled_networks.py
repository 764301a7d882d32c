"""Clean accuracy and corruption error of the bundled networks, each on its own test set.

`tttlib models` prints the table and writes it with the training curves. Measured units are kept as
result rows and not measured again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tttlib import data, evaluate, plots, statistics
from tttlib.corruptions import NAMES
from tttlib.data import ImageSet, MissingDataError
from tttlib.models import zoo
from tttlib.results import Store
from tttlib.streams import CLEAN

log = logging.getLogger(__name__)

SEVERITY = 5


def main(
    names: Iterable[str] | None, out: Path, root: Path | None = None, n: int | None = None
) -> pd.DataFrame:
    """Measure networks, write `<out>/tables/models.csv` and `<out>/figures/training_curves.png`.

    Parameters
    ----------
    names
        Bundled names or paths of checkpoints; None: all bundled ones whose dataset is there.
    out
        Folder of the run.
    root
        Folder of the real images; None: $TTTLIB_DATA.
    n
        Number of images of each test set (a seeded sample); None: all.

    Raises
    ------
    MissingDataError
        When a dataset of the given `names` is not there; without names it is skipped.
    """
    store = Store(out / "results")
    rows, cards = [], {}
    for name in names or zoo.bundled():
        card = zoo.load(name).card
        cards[card["name"]] = card
        try:
            images = test_set(card["data"], root)
        except MissingDataError as error:
            if names is not None:
                raise
            log.info("%s is left out: %s", name, error)
            continue
        rows.append(measure(name, images if n is None else images.sample(n), store))
    table = pd.DataFrame(rows)
    if rows:
        caption = f"Bundled networks; errors at severity {SEVERITY}, intervals 95 % bootstrap."
        plots.save_table(table, out, "models", caption)
    plots.use_style()
    plots.save(plots.training_curves(cards), out, "training_curves", "Training losses by phase.")
    return table


def test_set(dataset: str, root: Path | None) -> ImageSet:
    """Return the split that training never saw: test, or valid where there is no test split."""
    try:
        return data.load(dataset, "test", root)
    except MissingDataError:
        raise
    except ValueError:
        return data.load(dataset, "valid", root)


def measure(name: str, images: ImageSet, store: Store) -> dict[str, object]:
    """Return one row: clean accuracy and mean error over the 15 corruptions, in %.

    The interval of the mean error resamples images (or what makes them dependent), each with its
    15 corrupted versions together.
    """
    model = zoo.load(name)
    unit = {
        "experiment": "source",
        **evaluate.describe(model, images),
        "domain": "clean and the 15",
        "severity": SEVERITY,
        "seed": 0,
    }
    rows = store.run(
        unit, lambda: evaluate.predict(model, images, [CLEAN, *NAMES], severity=SEVERITY)
    )
    clean = rows[rows.domain == CLEAN]
    clusters = [clean[key] for key in images.factors()]
    accuracy = statistics.bootstrap(clean.correct, clusters)
    corrupted = rows[rows.domain != CLEAN]
    wrong = 1 - corrupted.groupby("id", sort=False).correct.mean().loc[clean.id]
    error = statistics.bootstrap(wrong, clusters)
    by_domain = 1 - corrupted.groupby("domain").correct.mean()
    return {
        "model": model.card["name"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "test set": f"{images.name} {images.split}",
        "images": len(images),
        "clean accuracy, %": _percent(accuracy),
        "mean error, %": _percent(error),
        "worst": f"{plots.pretty(str(by_domain.idxmax()))} {100 * by_domain.max():.1f}",
    }


def cards(nets: Mapping[str, Any]) -> pd.DataFrame:
    """Return what the cards of networks say: size, training, accuracy on clean images.

    Columns: model (the name in `nets`), parameters, M (millions), phases (the losses it was trained
    with, in their order), clean accuracy, % and measured on.
    """
    return pd.DataFrame(
        {
            "model": name,
            "parameters, M": round(sum(p.numel() for p in net.parameters()) / 1e6, 2),
            "phases": " then ".join(p["loss"] for p in net.card["recipe"].get("phases", [])),
            "clean accuracy, %": round(100 * net.card["clean_accuracy"], 1),
            "measured on": net.card["clean_accuracy_on"],
        }
        for name, net in nets.items()
    )


def _percent(mean: statistics.Interval) -> str:
    return f"{100 * mean.mean:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"
