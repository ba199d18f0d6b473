"""A signal stops training after the current step."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

from d2l_ft.system.signals import Stopped, handle_signals


class Interrupt:
    """Turn the first signal that asks to end, such as Ctrl-C, into a flag between two steps.

    A second one interrupts at once. Outside the main thread the signals stay as they are.

    Attributes:
        asked: Number of the signal; 0 if none has come.
    """

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> 'Interrupt':
        self._handled = handle_signals(self._on_signal)
        self._handled.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handled.__exit__(None, None, None)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise Stopped(number)
        self.asked = number
        with suppress(
            OSError, RuntimeError
        ):  # the stream is closed, or the signal came during a write to it
            print('\nstopping after this step; Ctrl-C again stops at once', file=sys.stderr)

    def until(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches until a signal asks to end, which raises ``Stopped``."""
        for batch in batches:
            if self.asked:
                raise Stopped(self.asked)
            yield batch
