"""What became of a prediction, as a sentence: held, failed, or cannot be decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan

from tttlib.tables.claims import Claim

POINTS_UP_TO = 0.05
"""A margin up to here is one of accuracy or of a share: its effect is told in points."""


def sentence(claim: Claim) -> str:
    """Return a claim with its number and what became of it, in Markdown."""
    return f"{statement(claim)}: **{became(claim)}**."


def statement(claim: Claim) -> str:
    """Return a claim with its number: “TTT helps”: +2.0 points [+1.1, +3.0] (600 images).

    Effects whose margin is a point or two (accuracies, errors, shares) are told in points, others
    (correlations, ratios) as numbers.
    """
    points = claim.margin <= POINTS_UP_TO and claim.null == 0
    scale, digits, unit = (100, 1, " points") if points else (1, 2, "")
    numbers = (claim.estimate, claim.low, claim.high)
    effect, low, high = (f"{scale * number:+.{digits}f}" for number in numbers)
    about = [claim.measure] * bool(claim.measure) + [f"{claim.n:,} {claim.unit}"]
    if not isnan(claim.mended + claim.broken):
        mended, broken = abs(claim.mended), abs(claim.broken)  # never -0
        about.append(f"{mended:,.0f} answers mended, {broken:,.0f} broken")
    return f"“{claim.claim}”: {effect}{unit} [{low}, {high}] ({'; '.join(about)})"


def became(claim: Claim) -> str:
    """Return what became of a claim: "held", "failed: …" or "cannot be decided with n = …"."""
    if claim.verdict == "undecided":
        more = "" if isnan(claim.needed) else f"; about {claim.needed:,.0f} would do"
        if claim.needed <= claim.n:  # enough for no effect and for one as large as the margin
            more = ": the effect lies between none and one that matters"
        return f"cannot be decided with n = {claim.n:,}{more}"
    small = ", but by less than what matters" * (claim.size == "within the margin")
    words = {
        "supported": "held" + small * (claim.expected != "zero"),
        "contradicted": "failed: it is the other way round" + small,
        "negligible": "failed: there is no effect that matters",
    }
    if claim.expected == "zero" and claim.verdict == "contradicted":
        return "failed: there is an effect that matters"
    return words[claim.verdict]


def listed(claims: Iterable[Claim]) -> str:
    """Return the results of predictions as a list in Markdown, one line a claim."""
    lines = [f"- {sentence(claim)}" for claim in claims]
    return "\n".join(["**Result.**\n", *(lines or ["- This run tests none of it."])])


def story(claims: Sequence[Claim], names: Sequence[str]) -> str:
    """Return what was found: the sentences of the claims called `names`, and how many are decided.

    Where several numbers decide one claim, the name of a measure picks one of them. A claim that
    this run did not make (another network, no boxes) is passed over; of claims of the same name all
    are told.
    """
    told = [c for name in names for c in claims if name in (c.claim, c.measure)]
    decided = sum(claim.verdict != "undecided" for claim in claims)
    count = f"{decided} of {len(claims)} statements are decided (the table at the end)."
    return "\n".join(["**What was found.**\n", *(f"- {sentence(c)}" for c in told), "", count])
