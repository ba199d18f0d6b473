"""The signals that ask a process to end: Ctrl-C, docker stop, a batch system, a closed terminal.

One that the process was started to ignore, as nohup does with SIGHUP, stays ignored.
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
    """A signal asks the process to end; whatever stops on Ctrl-C stops on it.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(error: BaseException | None) -> int:
    """Return the exit code of a process that ends by a ``KeyboardInterrupt``: 128 + signal."""
    return 128 + getattr(error, 'number', signal.SIGINT)


def stop_line(error: BaseException | None) -> str:
    """Return what is said of a ``KeyboardInterrupt``."""
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
    """Raise ``Stopped``; within an import, end the process.

    What is imported may take the exception for a fault of its own: NumPy and OpenCV report an
    installation that is broken.
    """
    error = Stopped(number)
    while frame is not None:
        if frame.f_code.co_filename.startswith('<frozen importlib'):
            with suppress(OSError):
                os.write(2, f'd2l-ft: {stop_line(error)}\n'.encode())
            os._exit(exit_code(error))
        frame = frame.f_back
    raise error


def set_worker_signals() -> None:
    """Have a worker process leave Ctrl-C, which a terminal sends to it too, to its parent.

    What the parent does on the other signals is not for the worker: it ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in TERMINATION_SIGNALS[1:]:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def end_with_parent() -> None:
    """End this process, as by SIGTERM, when its parent has: then its standard input is at its end.

    The parent gives it a pipe there, and holds the other end.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    if not sys.stdin.isatty():
        threading.Thread(target=wait, daemon=True).start()
