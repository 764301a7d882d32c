"""Freed memory is kept for the next batch, unless the environment has its own mind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Page faults of ten tensors of 64 MB, one after the other, before and after.
PROGRAM = """
import resource, torch
from tttlib.runtime import memory

def faults():
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

faults()
before, kept = faults(), memory.keep_freed()
faults()  # the heap takes a few tensors to settle
print(kept, before, faults())
"""


def run(**environment: str) -> list[str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    call = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(call, env={**own, **environment}, check=True, capture_output=True)
    return done.stdout.decode().split()


def test_pages_are_not_cleared_again() -> None:
    kept, before, after = run()
    if kept == "False":
        pytest.skip("needs the GNU C library")
    assert int(after) < 100 and int(after) * 10 <= max(int(before), 1000)


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_the_environment_has_the_last_word(name: str) -> None:
    value = {"MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}[name]
    assert run(**{name: value})[0] == "False"
