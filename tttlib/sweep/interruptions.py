"""How a unit is stopped: by its deadline, by Ctrl-C, or with its process."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any


class UnitTimeoutError(KeyboardInterrupt):
    """A unit took too long. It stops the unit as Ctrl-C would; `except Exception` lets it pass."""


@contextlib.contextmanager
def deadline(
    seconds: float | None, grace: float, give_up: Callable[[], None] | None
) -> Iterator[None]:
    """Raise UnitTimeoutError after `seconds`, where a signal can: in a main thread.

    Where none can, or where that has no effect for `grace`, `give_up` ends the process.
    """
    if seconds is None:
        yield
        return
    signals = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    timer = threading.Timer(seconds + (grace if signals else 0), give_up or (lambda: None))
    timer.daemon = True
    timer.start()
    before = signal.signal(signal.SIGALRM, _raise_timeout) if signals else None
    try:
        if signals:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        timer.cancel()
        if signals:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def noting_ctrl_c() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets; a unit may raise KeyboardInterrupt by itself, too."""
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return

    def note(number: int, frame: Any) -> None:
        pressed.set()
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def where_threads_are() -> str:
    """Return the tracebacks of all threads."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read()


def _raise_timeout(*_: object) -> None:
    raise UnitTimeoutError
