"""What a run costs before it is started: counts of work times constants measured here."""

from tttlib.cost.clock import Clock
from tttlib.cost.memory import bytes_of
from tttlib.cost.plan import hours_with, predict
from tttlib.cost.work import Task, work_of

__all__ = ["Clock", "Task", "bytes_of", "hours_with", "predict", "work_of"]
