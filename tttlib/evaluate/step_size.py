"""The size of a step of test-time training, chosen on images that are not reported."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tttlib import results, streams
from tttlib.evaluate.matching_ttt import TrainableAtTest
from tttlib.evaluate.online_ttt import online_together
from tttlib.evaluate.standard_ttt import source, standard
from tttlib.results import Store

log = logging.getLogger(__name__)

LARGER = 3.0
"""By how much every step grows when none of them moves an answer."""
ROUNDS = 5


def choose_step(
    model: TrainableAtTest,
    stream: streams.Stream,
    candidates: Sequence[Mapping[str, Any]],
    *,
    store: Store,
    steps: int = 0,
    clusters: Sequence[str] = (),
    **settings: Any,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Try candidates on a stream and choose the one that is right most often.

    When no candidate changes an answer, nothing has been learned about them: their learning rates
    are then raised by `LARGER`, up to `ROUNDS` times, with a warning. Among equally good candidates
    the one that changes fewest answers is chosen; their order plays no part. When all do harm, the
    one that harms least is chosen: see `table`.

    Parameters
    ----------
    model
        An autoencoder or a rotation network, which is left as it is.
    stream
        Images and corruptions that are not reported.
    candidates
        Settings with "lr", each of which replaces some of `settings`.
    store
        Keeps the rows.
    steps
        0 for online TTT; otherwise the number of steps of standard TTT.
    clusters
        Of the intervals.
    **settings
        Of all candidates, see `online` and `standard`.

    Returns
    -------
    table : pandas.DataFrame
        One row per candidate tried: its settings, accuracy (with TTT), n, difference (to the
        unadapted network, a fraction), low, high, mended and broken.
    chosen : dict
        `settings` with those of the best candidate.

    Raises
    ------
    ValueError
        Without candidates, or when even the largest steps move no answer.
    """
    if not candidates:
        raise ValueError("no candidates to choose a step from; give at least one, with its lr")
    fixed = source(model, stream)
    for tried in range(ROUNDS + 1):
        larger = [{**c, "lr": float(c["lr"]) * LARGER**tried} for c in candidates]
        options: dict[str, Any] = {"store": store, "progress": False, **settings}
        if steps:
            options |= {"steps": steps, "evaluate_at": [steps]}
            parts = [standard(model, stream, **{**options, **c}) for c in larger]
        else:
            rows = online_together(model, [stream] * len(larger), each=larger, **options)
            length = len(rows) // len(larger)
            parts = [rows[i * length : (i + 1) * length] for i in range(len(larger))]
        table = pd.DataFrame(
            {**c, **_change(fixed, part, clusters)} for c, part in zip(larger, parts, strict=True)
        )
        moved = table["mended"] + table["broken"]
        if moved.any():
            order = pd.DataFrame({"worse": -table["difference"], "moved": moved, "lr": table["lr"]})
            return table, {**settings, **larger[order.sort_values([*order.columns]).index[0]]}
        log.warning("no candidate moved an answer; their lr is raised %g times", LARGER)
    raise ValueError(
        f"no candidate moved an answer on {len(fixed)} arrivals, with lr up to "
        f"{table['lr'].max():g}; give larger steps or more images"
    )


def _change(fixed: pd.DataFrame, adapted: pd.DataFrame, clusters: Sequence[str]) -> dict[str, Any]:
    both = pd.concat([fixed.assign(when="before"), adapted.assign(when="after")])
    change = results.paired_difference(
        both, method_column="when", baseline="before", match=("domain", "severity", "id"),
        clusters=clusters,
    ).iloc[0]  # fmt: skip
    shown = ("n", "difference", "low", "high", "mended", "broken")
    return {"accuracy": adapted["correct"].mean(), **{name: change[name] for name in shown}}
