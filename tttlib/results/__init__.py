"""Result rows: one Parquet file per unit of work, with provenance; summaries of many of them.

A unit of work is what is computed, or lost, together: for instance 200 images of one corruption
with one setting. A finished unit is read, not run again, so every experiment is resumable.
"""

from tttlib.results.literature import compare_with_published, published
from tttlib.results.store import Store, load, provenance, unit_key
from tttlib.results.summaries import paired_difference, summarise

__all__ = [
    "Store",
    "compare_with_published",
    "load",
    "paired_difference",
    "provenance",
    "published",
    "summarise",
    "unit_key",
]
