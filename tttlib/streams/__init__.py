"""In which order corrupted test images arrive.

A stream is a table of what arrives when (`Stream.plan`) that makes its images batch by batch. The
corruption of an image depends on its id, the domain, the severity and the seed alone, never on its
place in the stream, so the same pair of image and corruption can be compared across orders.
"""

from tttlib.streams.changing_orders import SPEEDS, calibration, changing, walk
from tttlib.streams.continual_orders import (
    SCHEDULES,
    continual,
    correlated,
    gradual,
    orders,
    rising,
)
from tttlib.streams.corrupted_images import CLEAN, composed, corrupted
from tttlib.streams.harder_orders import label_shift, recurring
from tttlib.streams.online_orders import consecutive, interpolated, levels, mixed
from tttlib.streams.stream import MIXED, Batch, Stream

__all__ = [
    "CLEAN", "MIXED", "SCHEDULES", "SPEEDS", "Batch", "Stream", "calibration", "changing",
    "composed", "consecutive", "continual", "correlated", "corrupted", "gradual", "interpolated",
    "label_shift", "levels", "mixed", "orders", "recurring", "rising", "walk",
]  # fmt: skip
