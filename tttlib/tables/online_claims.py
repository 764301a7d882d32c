"""What notebook 03 says of online test-time training, from its rows; each network for itself.

Rows have a column network. `pairing` are the options of `results.paired_difference` that say what
counts as the same arrival: match and clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tttlib import results
from tttlib.tables import stream_tables
from tttlib.tables.claims import Claim, of_difference, of_values

HELPS = "online TTT helps under corruption"
FLUCTUATES = "online accuracy fluctuates beyond noise"
BEATS = "online TTT beats standard TTT"
HELD_OUT = "online TTT helps held-out images"
GROWING = {
    "levels": "rising severities are easier than shuffled ones",
    "interpolated": "a truly gradual shift is easier than its images shuffled",
}


def of_separate(
    whole: pd.DataFrame,
    many: pd.DataFrame,
    streams: Mapping[str, pd.DataFrame],
    steps: int,
    **pairing: Any,
) -> list[Claim]:
    """Return whether online TTT helps, beats standard TTT, and helps held-out images.

    Parameters
    ----------
    whole
        Differences of online TTT to the source, with the domain "all".
    many
        Rows of `stream_tables.side_by_side`.
    streams
        The rows of `evaluate.online` of each network.
    steps
        Of standard TTT.
    pairing
        See above.
    """
    told, last = [], f"standard, {steps}"
    for name, rows in streams.items():
        gained = whole[(whole["network"] == name) & (whole["domain"] == "all")].iloc[0]
        mine = many[(many["network"] == name) & many["method"].isin([last, "online"])]
        versus = _differences(mine, last, pairing).loc[["online"]].iloc[0]
        helped = stream_tables.heldout_change(rows, pairing["clusters"]).iloc[0]
        after = f"{name}: online - standard after {steps} steps"
        told += [
            _of(HELPS, gained, "arrivals", f"{name}: online - unadapted"),
            _of(BEATS, versus, "arrivals", after),
            _of(HELD_OUT, helped, "held-out images", f"{name}: end - start"),
        ]
    return told


def of_companies(company: pd.DataFrame, **pairing: Any) -> list[Claim]:
    """Return whether separate corruptions are easier than consecutive, these than shuffled ones.

    `company` are rows of `stream_tables.arrivals` with the methods separate, consecutive and
    shuffled, on the same pairs of image and corruption.
    """
    told = []
    for name in dict.fromkeys(company["network"]):
        mine = company[(company["network"] == name) & (company["method"] != "source")]
        for one, other in (("separate", "consecutive"), ("consecutive", "shuffled")):
            row = _differences(mine, other, pairing).loc[[one]].iloc[0]
            text = f"{one} corruptions are easier than {other} ones"
            told.append(_of(text, row, "pairs", f"{name}: {one} - {other}"))
    return told


def of_growth(rising: pd.DataFrame) -> list[Claim]:
    """Return whether shifts that grow are easier, from the differences rising minus shuffled."""
    table = rising.set_index(["network", "stream"])
    return [
        _of(text, table.loc[(name, kind)], "pairs", f"{name}: {kind} rising - shuffled")
        for name in dict.fromkeys(rising["network"])
        for kind, text in GROWING.items()
    ]


def of_fluctuations(tested: pd.DataFrame, windows: Mapping[str, int]) -> list[Claim]:
    """Return whether the accuracy fluctuates, at the window of each network.

    `tested` are rows of `stream_tables.fluctuations_of_streams` with the column window that was
    asked for; a network without a stream that fluctuates is left out.
    """
    told = []
    for name, window in windows.items():
        mine = tested[(tested["network"] == name) & (tested["window"] == window)]
        ratio = mine[mine["sequence"] == "adapted - source"]["ratio"].dropna() - 1
        what = f"{name}: variance of the average over {window} arrivals over chance's, minus 1"
        if len(ratio):
            told.append(of_values(FLUCTUATES, ratio, unit="streams", measure=what, margin=0.1))
    return told


def of_brakes(calmer: pd.DataFrame, network: str) -> list[Claim]:
    """Return whether each way of steadying helps, from its differences to plain online TTT."""
    better, measure = "better than plain online TTT", f"{network}: minus plain"
    ways = calmer.to_dict("records")
    return [_of(f"{way['method']}: {better}", pd.Series(way), "arrivals", measure) for way in ways]


def of_details(detail: pd.DataFrame) -> list[Claim]:
    """Return whether details of the protocol matter, from differences to plain online TTT."""
    return [
        of_difference(f"{row['method']}: no difference to shuffled, optimiser kept", row,
                      unit="arrivals", measure=row["network"], expected="zero")
        for _, row in detail[detail["method"] != "source"].iterrows()
    ]  # fmt: skip


def of_forgetting(change: pd.DataFrame) -> list[Claim]:
    """Return whether clean images are forgotten, from rows of `heldout_change` named by method."""
    return [
        of_difference("clean images are forgotten", row, unit="clean held-out images",
                      measure=f"{row['method']}, end - start", expected="below")
        for _, row in change[change["images"] == "clean"].iterrows()
    ]  # fmt: skip


def in_order(told: Sequence[Claim], networks: Sequence[str]) -> list[Claim]:
    """Return the claims by network, the general ones first: the order in which they are kept."""
    first = {HELPS: 0, FLUCTUATES: 1}

    def place(claim: Claim) -> tuple[int, int]:
        network = [claim.measure.startswith(f"{name}:") for name in networks].index(True)
        return network, first.get(claim.claim, len(first))

    return sorted(told, key=place)


def _differences(rows: pd.DataFrame, baseline: str, pairing: Mapping[str, Any]) -> pd.DataFrame:
    """Return the differences to a method over all domains, by method."""
    return results.paired_difference(
        rows.assign(domains="all"), "domains", method_column="method", baseline=baseline, **pairing
    ).set_index("method")


def _of(claim: str, row: pd.Series, unit: str, measure: str) -> Claim:
    return of_difference(claim, row, unit=unit, measure=measure)
