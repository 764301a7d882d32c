"""Numbers that the notebooks must give again at tiny size, in tests/goldens/notebooks.json.

Made by `python tests/notebook_goldens.py RUN`, with RUN a folder in which the notebooks
`test_notebooks.EXECUTED` ran with the parameters of `test_notebooks.TINY`. One run, so tolerances
are those of rounding (see `tttlib.results.goldens`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from tttlib.results import goldens

FILE = Path(__file__).parent / "goldens" / "notebooks.json"
BY = ("method", "model", "domain", "severity")
EXPERIMENTS = ("ttt", "online")


if __name__ == "__main__":
    goldens.make([Path(sys.argv[1])], FILE, by=BY, experiments=EXPERIMENTS)
