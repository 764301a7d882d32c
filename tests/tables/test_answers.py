"""What became of a prediction, in words that agree with its interval."""

import pytest

from tttlib.tables import answers
from tttlib.tables.claims import Claim


def claim(estimate: float, low: float, high: float, expected: str = "above", **more) -> Claim:
    more = {"measure": "after - before", **more}
    return Claim("TTT helps", estimate, low, high, 600, "images", expected, **more)


@pytest.mark.parametrize(
    ("interval", "expected", "words"),
    [
        ((0.02, 0.011, 0.03), "above", "held"),
        ((0.02, 0.001, 0.03), "above", "held"),
        ((0.005, 0.001, 0.009), "above", "held, but by less than what matters"),
        ((-0.02, -0.03, -0.011), "above", "failed: it is the other way round"),
        ((-0.02, -0.03, -0.011), "below", "held"),
        ((0.0, -0.009, 0.009), "above", "failed: there is no effect that matters"),
        ((0.0, -0.009, 0.009), "zero", "held"),
        ((0.005, 0.001, 0.009), "zero", "held"),
        ((0.05, 0.02, 0.08), "zero", "failed: there is an effect that matters"),
        ((0.0, -0.02, 0.02), "above", "cannot be decided with n = 600"),
    ],
)
def test_became(interval, expected, words):
    assert answers.became(claim(*interval, expected)) == words


def test_an_undecided_claim_says_how_many_would_decide():
    told = claim(0.0, -0.02, 0.02, mended=6.0, broken=6.0, effective_n=500.0)
    needed = f"{told.needed:,.0f}"
    assert answers.became(told) == f"cannot be decided with n = 600; about {needed} would do"


def test_an_effect_between_none_and_the_margin_is_not_said_to_want_more():
    flips = {"mended": 35.0, "broken": 21.0, "effective_n": 2069.0}
    told = Claim("TTT helps", 0.0044, -0.0015, 0.0102, 3200, "images", "above", **flips)
    assert told.verdict == "undecided" and told.needed < told.n
    words = "cannot be decided with n = 3,200: the effect lies between none and one that matters"
    assert answers.became(told) == words


def test_a_share_is_told_in_points_and_a_correlation_as_a_number():
    share = claim(0.0214, -0.0003, 0.043, mended=1270.0, broken=12.0, effective_n=500.0)
    assert answers.sentence(share).startswith(
        "“TTT helps”: +2.1 points [-0.0, +4.3] (after - before; 600 images; 1,270 answers mended, "
        "12 broken): **cannot be decided"
    )
    unbroken = claim(0.02, 0.01, 0.03, mended=3.0, broken=-0.0)
    assert "3 answers mended, 0 broken)" in answers.sentence(unbroken)
    related = Claim("size explains", 0.2389, 0.1565, 0.3179, 3200, "images", "zero", 0.1)
    assert answers.sentence(related) == (
        "“size explains”: +0.24 [+0.16, +0.32] (3,200 images): **failed: there is an effect that "
        "matters**."
    )


def test_a_story_tells_the_named_claims_in_their_order_and_counts_the_decided():
    first = claim(0.0, -0.02, 0.02)
    second = Claim("rotation helps", 0.02, 0.011, 0.03, 600, "images", "above")
    text = answers.story([first, second], ["rotation helps", "of another run", "TTT helps"])
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert lines == [f"- {answers.sentence(second)}", f"- {answers.sentence(first)}"]
    assert text.endswith("1 of 2 statements are decided (the table at the end).")


def test_a_story_tells_one_measure_of_a_claim():
    both = [claim(0.0, -0.02, 0.02), claim(0.02, 0.011, 0.03, measure="at severity 5")]
    lines = answers.story(both, ["at severity 5"]).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [f"- {answers.sentence(both[1])}"]


def test_no_answer_broken_is_zero():
    told = answers.sentence(claim(0.02, 0.011, 0.03, mended=3.0, broken=-0.0))
    assert "3 answers mended, 0 broken" in told


def test_results_are_listed_one_a_line():
    both = [claim(0.0, -0.02, 0.02), claim(0.02, 0.011, 0.03)]
    assert answers.listed(both).splitlines()[2:] == [f"- {answers.sentence(c)}" for c in both]
    assert answers.listed([]).endswith("- This run tests none of it.")
