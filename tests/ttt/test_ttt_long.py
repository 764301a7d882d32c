"""Long runs of test-time training: killed and resumed, and memory that stays where it is."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tttlib import results

UNITS, IMAGES, DOMAINS = 6, 3, ["contrast", "fog"]
WORK = f"""
import sys
from pathlib import Path
from tttlib import data, evaluate, results
from tttlib.models import zoo

evaluate.standard_ttt.IMAGES_PER_UNIT = {IMAGES}
images = data.load("scenes", "valid", n={UNITS * IMAGES})
print("ready", flush=True)
evaluate.test_time_training(
    zoo.load("mae-scenes"), images, {DOMAINS}, store=results.Store(sys.argv[1]), steps=4,
    batch_size=4, lr=1e-3, optimizer="sgd",
)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(folder: Path) -> float:
    """Seconds of the work after the imports."""
    with start(folder) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        begin = time.perf_counter()
        assert process.wait(timeout=300) == 0
        return time.perf_counter() - begin


def rows(folder: Path) -> pd.DataFrame:
    table = results.load(folder).drop(columns=["git_sha", "device"])
    return table.sort_values(["domain", "id", "step"]).reset_index(drop=True)


@pytest.mark.parametrize(
    "kills", [pytest.param(2, id="2"), pytest.param(20, id="20", marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_and_resumed(tmp_path: Path, kills: int) -> None:
    """Every image once, equal to the last bit to a run that nobody killed."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    seconds = finish(whole)
    expected = rows(whole)
    assert len(expected) == len(DOMAINS) * UNITS * IMAGES * 5
    moments, killed = random.Random(0), 0
    while killed < kills:
        with start(broken) as process:
            assert process.stdout is not None
            if moments.random() < 0.9:  # else somewhere in the imports
                process.stdout.readline()
                time.sleep(moments.uniform(0, seconds * 2 / len(DOMAINS) / UNITS))  # two units
            else:
                time.sleep(moments.uniform(0, 1))
            process.send_signal(signal.SIGKILL)
        if process.returncode == -signal.SIGKILL:
            killed += 1
        elif killed < kills:  # it was done before: from the start again
            pd.testing.assert_frame_equal(rows(broken), expected, check_exact=True)
            for path in broken.glob("*.parquet"):
                path.unlink()
    finish(broken)
    found = rows(broken)
    assert not found.duplicated(["domain", "id", "step"]).any()
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in use from /proc")
def test_memory_is_flat_over_2000_images() -> None:
    script = """
import re, sys, torch
from pathlib import Path
from tttlib import ttt
from tttlib.models import zoo

def megabytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

model = zoo.load("mae-scenes")
images = torch.rand(100, 3, 32, 32)
for done in range(100, 2001, 100):
    ids = torch.arange(done - 100, done)
    ttt.run(model, images, ids=ids, steps=2, batch_size=8, lr=1e-3, parallel=8)
    if done in (100, 2000):
        print(megabytes())
ttt.run(model, images[:1].expand(2000, -1, -1, -1), steps=1, batch_size=1, lr=1e-3, parallel=16)
print(megabytes())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, last, in_one_call = map(float, done.stdout.split())
    print(f"memory in use: {first:.0f} MB after 100 images, {last:.0f} MB after 2,000")
    assert last - first < 20
    assert in_one_call - first < 100  # results of 2,000 images, and one stack more
