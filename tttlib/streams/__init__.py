"""In which order corrupted test images arrive.

A stream is a table of what arrives when (`Stream.plan`) that makes its images batch by batch. The
corruption of an image depends on its id, the domain, the severity and the seed alone, never on its
place in the stream, so the same pair of image and corruption can be compared across orders.
"""

from tttlib.streams.continual_orders import (
    SCHEDULES,
    continual,
    correlated,
    gradual,
    orders,
    rising,
)
from tttlib.streams.online_orders import consecutive, interpolated, levels, mixed
from tttlib.streams.stream import CLEAN, MIXED, Batch, Stream, corrupted

__all__ = [
    "CLEAN", "MIXED", "SCHEDULES", "Batch", "Stream", "consecutive", "continual", "correlated",
    "corrupted", "gradual", "interpolated", "levels", "mixed", "orders", "rising",
]  # fmt: skip
