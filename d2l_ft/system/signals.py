"""The signals that ask a process to end: Ctrl-C, docker stop, a batch system, a closed terminal.

A signal that the process was started to ignore, as nohup does with SIGHUP, stays ignored.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

TERMINATION_SIGNALS = tuple(
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end; code that handles Ctrl-C handles it too.

    Attributes:
        number: The number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(error: BaseException | None) -> int:
    """Return the exit code of a process that ends by a ``KeyboardInterrupt``: 128 + signal."""
    return 128 + getattr(error, 'number', signal.SIGINT)


def stop_line(error: BaseException | None) -> str:
    """Return the line that reports a ``KeyboardInterrupt``."""
    number = getattr(error, 'number', signal.SIGINT)
    return 'interrupted' if number == signal.SIGINT else f'ended by {signal.Signals(number).name}'


@contextmanager
def handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give the ``TERMINATION_SIGNALS`` to a handler; only in the main thread, as Python demands."""
    former = {}
    if threading.current_thread() is threading.main_thread():
        for number in TERMINATION_SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                former[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, each in former.items():
            signal.signal(number, each)


def stop(number: int, frame: FrameType | None) -> None:
    """Raise ``Stopped``; during an import, end the process instead.

    A package that is being imported may catch the exception and blame itself: NumPy and OpenCV
    would report a broken installation.
    """
    error = Stopped(number)
    while frame is not None:
        if frame.f_code.co_filename.startswith('<frozen importlib'):
            with suppress(OSError):
                # directly, as _exit flushes no stream
                os.write(2, f'd2l-ft: {stop_line(error)}\n'.encode())
            os._exit(exit_code(error))
        frame = frame.f_back
    raise error


def set_worker_signals() -> None:
    """Let a worker process ignore Ctrl-C, and end on the other signals.

    A terminal sends Ctrl-C to all processes; the parent decides what it means. A forked worker has
    the parent's handlers of the other signals, which are not meant for it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in TERMINATION_SIGNALS[1:]:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def end_with_parent() -> None:
    """End this process, as by SIGTERM, when its parent has ended.

    The parent gives it a pipe as its standard input and holds the other end, so the input ends
    when the parent does, however it died.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    if not sys.stdin.isatty():
        threading.Thread(target=wait, daemon=True).start()
