"""Parity of ROID, CMF, RoTTA, MEMO and SHOT-IM with outputs of the released classes."""

from __future__ import annotations

from pathlib import Path

import modern_oracle
import pytest

CASES = ("roid", "roid_ln", "cmf", "rotta", "memo", "shot")


@pytest.mark.oracles
@pytest.mark.parametrize("case", CASES)
def test_answers_and_tensors_of_the_released_code(case: str, oracles_root: Path) -> None:
    worst = modern_oracle.read(oracles_root).check(case)
    print(f"{case}: answers {worst.answers:.1e}, tensors {worst.tensors:.1e}")
