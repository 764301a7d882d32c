"""Online streams stand beside the report's numbers for the same stream, way and images."""

import pandas as pd

from tttlib.tables import beside_report

GROWING = "zoom_blur, severities 1 to 5"


def rows(method: str) -> pd.DataFrame:
    """Four arrivals, three of them right, and two held-out images before and after them."""
    held = {"part": "held-out", "domain": "zoom_blur", "correct": True, "severity": 5}
    parts = [{**held, "id": i, "position": at} for i in (8, 9) for at in (0, 4)]
    parts += [
        {"part": "stream", "domain": "zoom_blur", "id": i, "severity": 5, "position": i + 1,
         "correct": i > 0}
        for i in range(4)
    ]  # fmt: skip
    return pd.DataFrame(parts).assign(network="mae", method=method, stream="s", seed=0)


def test_the_reports_numbers_find_their_rows():
    ours = {"four blurs": rows("shuffled"), GROWING: rows("rising")}
    pairs = {name: (t[t["part"] == "stream"], t) for name, t in ours.items()}
    table = beside_report.streams(pairs).set_index(["stream", "images"])
    published = table["published, %"]
    assert published["four blurs", "arrivals"] == 31.3
    assert pd.isna(published["four blurs", "held-out"])
    assert published[GROWING, "arrivals"] == 55.3
    assert published[GROWING, "held-out"] == 55.1
    assert table["mean"].tolist() == [0.75, 1.0] * 2
    assert table["n"].tolist() == [4, 2] * 2
