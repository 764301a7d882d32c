"""What PALM and AutoLR decided for each tensor: importance, selection and learning rates.

Diagnostics are rows of domain, tensor, name and value, one stream's or several streams'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd


def by_stage(diagnostics: pd.DataFrame, name: str = "importance") -> pd.DataFrame:
    """Return a diagnostic that is one number per tensor, by stage of the network.

    Columns domain, stage (the first part of the parameters' names), tensors, mean, zeros (share of
    tensors with the value 0). PALM, figure 2.
    """
    rows = diagnostics[(diagnostics["name"] == name) & (diagnostics["tensor"] != "")]
    rows = rows.assign(stage=_stage(rows["tensor"]), zero=rows["value"] == 0)
    grouped = rows.groupby(["domain", "stage"], sort=False)
    return grouped.agg(
        tensors=("tensor", "nunique"), mean=("value", "mean"), zeros=("zero", "mean")
    ).reset_index()


def stage_contrast(stages: pd.DataFrame, column: str) -> pd.Series:
    """Return `column` of the first stage minus that of the last, by domain (see `by_stage`).

    What lies before and after the numbered stages (stem, last norm, classifier) does not count.
    """
    numbered = stages[stages["stage"].str.contains(r"\d$") & (stages["tensors"] > 2)]
    values = numbered.pivot_table(column, "domain", "stage", sort=False)
    return values[min(values.columns)] - values[max(values.columns)]


def selection(diagnostics: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """Return what PALM selects, one row per tensor in the network's order.

    Parameters
    ----------
    diagnostics
        Those of `adapt.palm.Palm`.
    sizes
        The number of elements of each tensor, by name.

    Returns
    -------
    pandas.DataFrame
        Columns tensor, stage, elements, score (mean L1 norm of g; of a convolution that is not
        selected perhaps only a lower bound) and selected (share of the domains' batches).
    """
    rows = diagnostics[diagnostics["name"].isin(["score", "selected"])]
    table = rows.pivot_table("value", "tensor", "name", sort=False).reset_index()
    table.columns.name = None
    table = table.assign(stage=_stage(table["tensor"]), elements=table["tensor"].map(sizes))
    return table[["tensor", "stage", "elements", "score", "selected"]]


def changed_decisions(diagnostics: pd.DataFrame) -> pd.Series:
    """Return, by domain, the share of PALM's decisions to select a tensor that are unusual for it.

    A decision is one tensor in one batch; usual is what happens to this tensor in most batches.
    """
    rows = diagnostics[diagnostics["name"] == "selected"]
    shares = rows.pivot_table("value", "domain", "tensor", sort=False)  # [domains, tensors]
    usual = (shares.mean() > 0.5).astype("float64")
    return (shares - usual).abs().mean(axis=1)


def of_each_stream(streams: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return what PALM did along each of several streams, one row each, from their diagnostics.

    The corruptions and layers of one stream depend on each other, so a stream is one value.
    Columns: importance and resting (mean importance, and share of tensors without any, of the first
    stage minus the last), changed (see `changed_decisions`) and selected (share of the elements).
    """
    return pd.DataFrame(
        {
            "importance": stage_contrast(by_stage(one), "mean").mean(),
            "resting": stage_contrast(by_stage(one), "zeros").mean(),
            "changed": changed_decisions(one).mean(),
            "selected": one[one["name"] == "share_selected"]["value"].mean(),
        }
        for one in streams
    )


def rate_changes(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Return AutoLR's rates and how far they are from those of the first block.

    Columns layer, block, rate (mean over the block's batches) and change, which is
    |rate / rate in the first block - 1|; the first block itself is left out.
    """
    rows = diagnostics[(diagnostics["method"] == "autolr") & (diagnostics["name"] == "rates")]
    rows = rows.rename(columns={"tensor": "layer", "value": "rate"})
    # A long block is several units of work.
    rows = rows.groupby(["layer", "block"], sort=False)["rate"].mean().reset_index()
    begins = rows["block"] == rows["block"].min()
    first = rows["layer"].map(rows[begins].set_index("layer")["rate"])
    return rows.assign(change=(rows["rate"] / first - 1).abs())[~begins].reset_index(drop=True)


def _stage(tensors: pd.Series) -> pd.Series:
    return tensors.str.split(".").str[0]
