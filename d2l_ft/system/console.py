"""Lines for the user: above a progress bar instead of inside it, without control characters.

Names of files and classes come from anywhere. One may hold a line break, or what gives a terminal
orders, and need not be text at all; ``visible`` makes each of these a readable escape. ``quote``
and its like tell names apart.
"""

import errno
import os
import re
import signal
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

SHOWN = 5
"""Names of many that a line has."""

PLAIN = re.compile(r'[\w.+-]+( [\w.+-]+)*')
"""Names that nothing else in a line can be taken for."""

JOINERS = '\u200c\u200d'
"""Characters of the category Cf that words and emoji need."""

HIDDEN = ('Cc', 'Cf', 'Cs', 'Zl', 'Zp')
"""Categories of control, of format (such as the direction of text), of bytes that are not UTF-8
(as surrogates) and of line breaks."""


def visible(text: str) -> str:
    """Return a text as one line in which each character of ``HIDDEN`` is an escape."""
    if text.isascii() and text.isprintable():
        return text
    return ''.join(
        each.encode('unicode_escape').decode()
        if unicodedata.category(each) in HIDDEN and each not in JOINERS
        else each
        for each in text
    )


def say(*lines: object) -> None:
    """Print lines to the standard output."""
    for line in lines:
        tqdm.write(visible(str(line)))
    sys.stdout.flush()


def tell(text: str) -> None:
    """Print what goes on; nothing in a notebook, whose output would vary by it."""
    if 'ipykernel' not in sys.modules:
        say(text)


def warn(text: str) -> None:
    """Print to the error stream what the user should know."""
    tqdm.write(f'd2l-ft: {visible(text)}', file=sys.stderr)


class OutputFailed(Exception):
    """The standard output takes no more.

    Attributes:
        code: Exit code: that of a process which SIGPIPE ended if the reader has gone, otherwise 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f'cannot write to the standard output: {os.strerror(number)}')
        gone = number == errno.EPIPE and hasattr(signal, 'SIGPIPE')
        self.code = 128 + signal.SIGPIPE if gone else 1


class Output:
    """A text stream of the process whose troubles are known, and end the process or do not.

    After the first trouble what is written is lost.

    Args:
        stream: The stream.
        ignore_errors: Whether the process goes on after an error.
        error_number: Number of the error that each write has; 0 for none.
    """

    def __init__(self, stream: Any, *, ignore_errors: bool, error_number: int = 0) -> None:
        self.stream, self.ignore_errors, self.error_number = stream, ignore_errors, error_number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            OutputFailed: It cannot be written, and the process is to end.
        """
        if text != '':  # which click writes to find out what it has before it
            self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OutputFailed: As ``write``.
        """
        self._try(self.stream.flush)

    def _try(self, action: Any, *arguments: str) -> None:
        """Do something with the stream."""
        number = self.error_number if arguments else 0
        try:
            action(*arguments)
        except OSError as error:
            number = error.errno or errno.EIO
            null = os.open(os.devnull, os.O_RDWR)  # where what waits in buffers goes at the exit
            os.dup2(null, self.stream.fileno())
            os.close(null)
        if number and not self.ignore_errors:
            self.ignore_errors = True
            raise OutputFailed(number)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Have a command write to its streams whatever they are: closed, full, or of few characters."""
    former = sys.stdin, sys.stdout, sys.stderr
    closed = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would be the stream
            os.open(os.devnull, os.O_RDWR)
            closed.append(number)
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115
    for number, name in ((1, 'stdout'), (2, 'stderr')):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, 'w', closefd=False)  # noqa: SIM115
        if isinstance(stream, Output):  # of a command around this one
            continue
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')
        failure = errno.EBADF if number in closed else 0
        setattr(sys, name, Output(stream, ignore_errors=name == 'stderr', error_number=failure))
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = former


def ignore_output_errors() -> None:
    """Have no trouble with the standard output end this process."""
    if isinstance(sys.stdout, Output):
        sys.stdout.ignore_errors = True


def appearance(name: str) -> str:
    """Return what names that look the same have in common: accents composed, one kind of space."""
    return ' '.join(unicodedata.normalize('NFC', name).split())


def quote(name: str) -> str:
    """Return a name in quotes, with escapes where it does not show what it is."""
    return repr(name) if name == appearance(name) and name.isprintable() else ascii(name)


def quote_if_needed(name: str) -> str:
    """Return a name as it is if nothing in it can be taken for something else, else ``quote``."""
    return name if PLAIN.fullmatch(name) and name == appearance(name) else quote(name)


def list_names(names: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return the first few of some names, quoted, and how many more there are; or 'none'.

    Names that look the same as another, of these or the others, are told apart by escapes.
    """
    every = list(names)
    if not every:
        return 'none'
    alike = Counter(map(appearance, {*every, *others}))
    text = ', '.join(ascii(n) if alike[appearance(n)] > 1 else quote(n) for n in every[:SHOWN])
    return text + (f' and {len(every) - SHOWN} more' if len(every) > SHOWN else '')


def list_difference(names: Iterable[str], others: Iterable[str]) -> str:
    """Return ``list_names`` of the names that are not among the others."""
    these, those = set(names), set(others)
    return list_names(sorted(these - those), those)
