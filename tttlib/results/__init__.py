"""Result rows: one Parquet file per unit of work, with provenance; summaries of many of them.

A unit of work is what is computed, or lost, together: for instance 200 images of one corruption
with one setting. A finished unit is read, not run again, so every experiment is resumable.
"""

from tttlib.results.folders import gather, result_files
from tttlib.results.literature import beside_published, published
from tttlib.results.result_file import provenance
from tttlib.results.store import Store, load, unit_key
from tttlib.results.summaries import paired_difference, summarise
from tttlib.results.tabulation import tabulate
from tttlib.results.typeset import latex

__all__ = [
    "Store",
    "beside_published",
    "gather",
    "latex",
    "load",
    "paired_difference",
    "provenance",
    "published",
    "result_files",
    "summarise",
    "tabulate",
    "unit_key",
]
