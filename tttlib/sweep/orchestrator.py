"""The loop that keeps an engine busy with units and takes down what becomes of each."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from tqdm.auto import tqdm

from tttlib.runtime.clock import now
from tttlib.sweep import engines, records
from tttlib.sweep.task import Task
from tttlib.sweep.worker import STOPPED, circumstances


class SweepError(Exception):
    """A sweep could not go on; what is done is kept, and the same command resumes."""


def run_tasks(
    tasks: Sequence[Task],
    engine: engines.Engine,
    ended: Callable[[dict[str, Any]], None],
    *,
    deaths: int,
    total: int,
    **bar_options: Any,
) -> None:
    """Keep an engine busy until all tasks have ended.

    Parameters
    ----------
    tasks
        The tasks, begun in this order.
    engine
        Where they run.
    ended
        Is called with the record of each unit that has ended; done ones come before failed ones.
        What it raises ends the run.
    deaths
        Of a unit's worker, until the unit counts as failed.
    total
        Number of units that the progress bar shows; what is no task is done already.
    bar_options
        Further options of the bar (tqdm).

    Raises
    ------
    SweepError
        When the run cannot go on.
    """
    waiting, flying = deque(tasks), dict[Any, Task]()
    counted, failed = Counter[str](), 0
    with tqdm(total=total, initial=total - len(tasks), **bar_options) as bar:
        while waiting or flying:
            n = min(engine.slots - len(flying), len(waiting))
            if n > 0 and not (engine.arrays and flying):
                batch = [waiting.popleft() for _ in range(n)]
                flying.update(zip(engine.submit(batch), batch, strict=True))
            finished = []
            try:
                for future in engine.wait(flying, 1.0):
                    record = _record_of(flying[future], future, engine, counted, deaths)
                    task = flying.pop(future)
                    if record is None:
                        waiting.appendleft(task)
                    else:
                        finished.append(record)
            except engines.EngineLostError as error:
                raise SweepError(f"{error}; what is done is kept") from error
            for record in sorted(finished, key=lambda one: one["state"] != records.DONE):
                if record["state"] == STOPPED:
                    raise SweepError(f"{record['error']}; what is done is kept")
                failed += record["state"] == records.FAILED
                ended(record)
                bar.update(1)
            running = min(len(flying), engine.at_once)
            bar.set_postfix(failed=failed, running=running, refresh=False)


def _record_of(
    task: Task, future: Any, engine: engines.Engine, counted: Counter[str], deaths: int
) -> dict[str, Any] | None:
    """Return the record of a unit that has ended; None if its worker died and it runs again."""
    try:
        return engine.result(future)
    except engines.UnitLateError:
        return _failure(task, f"took longer than {task.timeout} s and had to be killed")
    except engines.WorkerDiedError as error:
        record = records.read(task.folder)
        ours = record is not None and record["session"] == task.session
        if record is not None and ours and record["state"] != records.RUNNING:
            return record
        # dask blames all units that a worker held; those that had not begun are innocent
        counted[task.key] += error.times if ours else 1
        if (times := counted[task.key]) < deaths:
            return None
        often = f" {times} times" if times > 1 else ""
        why = "killed from outside, or out of memory; fewer at once (--workers 1) need less"
        return _failure(task, f"its worker died ({error}){often}: {why}")


def _failure(task: Task, error: str) -> dict[str, Any]:
    """Write and return the record of a unit that could not do so itself."""
    record = {**task.identity(), **circumstances(), "state": records.FAILED, "error": error}
    record |= {"seconds": None, "traceback": "", "finished": now()}
    try:
        records.write(task.folder, record)
        (task.folder / "error.txt").write_text(error, encoding="utf-8")
    except OSError as problem:
        return {"state": STOPPED, "error": f"cannot write {task.folder}: {problem}"}
    return record
