"""A time limit that interrupts the work and says at which line of the user's code it was."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from toolkit.capture.record import line_of, reader
from toolkit.core.errors import TimedOut


class _Expired(BaseException):
    """Passes through every `except Exception` of the exporters."""

    def __init__(self, line: str) -> None:
        self.line = line
        super().__init__(line)


@contextlib.contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise `TimedOut` when the block takes longer; no limit outside a process's main thread.

    Arguments:
        seconds: The limit; 0 for none.
        what: What is being done, for the message.

    Raises:
        TimedOut: The time is over; the message names the line that was running.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        del number
        raise _Expired(line_of(reader(frame)))

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Expired as expired:
        raise TimedOut(
            f"{what} took longer than {seconds:g} s",
            where=expired.line,
            next_step="raise the limit with --timeout, or export a smaller model first: "
            "toolkit doctor --model TARGET says what takes long",
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
