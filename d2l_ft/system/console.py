"""Lines for the user: above a progress bar instead of inside it, without control characters.

Names of files and classes can hold anything: a line break, a control sequence of a terminal, bytes
that are no text. ``visible`` turns each of these into a readable escape; ``quote`` and
``list_names`` show names so that two different ones never look the same.
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
"""How many names of a long list a line shows."""

PLAIN = re.compile(r'[\w.+-]+( [\w.+-]+)*')
"""Names that need no quotes: nothing in them could be read as part of the sentence."""

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
    """Print progress; nothing in a notebook, whose stored output would then vary."""
    if 'ipykernel' not in sys.modules:
        say(text)


def warn(text: str) -> None:
    """Print a warning to the error stream."""
    tqdm.write(f'd2l-ft: {visible(text)}', file=sys.stderr)


class OutputFailed(Exception):
    """The standard output cannot be written any more.

    Attributes:
        code: Exit code: 128 + SIGPIPE if the reader of a pipe is gone, as a shell reports it;
            otherwise 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f'cannot write to the standard output: {os.strerror(number)}')
        gone = number == errno.EPIPE and hasattr(signal, 'SIGPIPE')
        self.code = 128 + signal.SIGPIPE if gone else 1


class Output:
    """A standard stream whose write errors end the process, or are ignored.

    After the first error whatever is written is lost.

    Args:
        stream: The stream.
        ignore_errors: Whether the process goes on after an error.
        error_number: errno with which each write fails, for a stream that was closed; 0 if none.
    """

    def __init__(self, stream: Any, *, ignore_errors: bool, error_number: int = 0) -> None:
        self.stream, self.ignore_errors, self.error_number = stream, ignore_errors, error_number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            OutputFailed: It cannot be written, and errors are not ignored.
        """
        if text != '':  # click writes '' to find out whether the stream takes text or bytes
            self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream.

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
            # the buffer is still full: without this Python would fail again when it exits
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self.stream.fileno())
            os.close(null)
        if number and not self.ignore_errors:
            self.ignore_errors = True
            raise OutputFailed(number)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Make the standard streams safe to write: closed, full, or with an encoding like ASCII."""
    former = sys.stdin, sys.stdout, sys.stderr
    closed = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get its number
            os.open(os.devnull, os.O_RDWR)
            closed.append(number)
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115
    for number, name in ((1, 'stdout'), (2, 'stderr')):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, 'w', closefd=False)  # noqa: SIM115
        if isinstance(stream, Output):  # already safe: a command calls another one
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
    """Let the process go on when the standard output cannot be written any more."""
    if isinstance(sys.stdout, Output):
        sys.stdout.ignore_errors = True


def appearance(name: str) -> str:
    """Return a name as a reader sees it: accents composed, one kind of space."""
    return ' '.join(unicodedata.normalize('NFC', name).split())


def quote(name: str) -> str:
    """Return a name in quotes, with escapes if its look would hide a character."""
    return repr(name) if name == appearance(name) and name.isprintable() else ascii(name)


def quote_if_needed(name: str) -> str:
    """Return a name without quotes if it is ``PLAIN``, otherwise ``quote`` it."""
    return name if PLAIN.fullmatch(name) and name == appearance(name) else quote(name)


def list_names(names: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return the first ``SHOWN`` names, quoted, and how many more there are; or 'none'.

    Args:
        names: The names.
        others: Names that the same message shows. A name that looks like another one, of these or
            of those, is shown with escapes.
    """
    every = list(names)
    if not every:
        return 'none'
    alike = Counter(map(appearance, {*every, *others}))
    text = ', '.join(ascii(n) if alike[appearance(n)] > 1 else quote(n) for n in every[:SHOWN])
    return text + (f' and {len(every) - SHOWN} more' if len(every) > SHOWN else '')


def list_difference(names: Iterable[str], others: Iterable[str]) -> str:
    """Return ``list_names`` of those names that are not in ``others``."""
    these, those = set(names), set(others)
    return list_names(sorted(these - those), those)
