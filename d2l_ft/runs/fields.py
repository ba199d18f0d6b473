"""The values that options, configs and checkpoints may have, declared once for all three.

A dataclass field made by ``option`` has a default, a help text and the allowed values. The options
of the command line are made from these fields, and ``check_fields`` checks values from the command
line, from Python and from files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from d2l_ft.errors import OptionError

MOST_CLASSES = 10**5
"""Above any real data set: a larger number comes from a damaged file and would fill the memory."""

LONGEST = 4096
"""Characters of a text: PATH_MAX of Linux."""


@dataclass(frozen=True)
class Option:
    """The declaration of a field besides its name, type and default.

    Attributes:
        help: What it does; other options are named as in errors (``d2l_ft.errors``).
        bounds: The least and the largest whole number.
        choices: The texts that it may be; () allows any.
        flag: Its name on the command line; '' is that of the field.
        metavar: What stands for the value in the help.
        may_change: Whether a run may be resumed with another value, as no result depends on it.
    """

    help: str
    bounds: tuple[int, int] | None = None
    choices: tuple[str, ...] = ()
    flag: str = ''
    metavar: str | None = None
    may_change: bool = False


def option(default: Any, help: str, choices: Sequence[str] = (), **known: Any) -> Any:
    """Return a field of a dataclass with its declaration; ``known`` as of ``Option``."""
    declared = Option(help, choices=tuple(choices), **known)
    return field(default=default, metadata={'option': declared})


def check_fields(record: Any) -> None:
    """Refuse values that the fields of a dataclass may not have.

    Raises:
        OptionError: A number is out of bounds, a text is none of the choices; or as ``check_text``.
    """
    for each in fields(record):
        value, declared = getattr(record, each.name), each.metadata.get('option', Option(''))
        if value is None:
            continue
        if isinstance(value, str):
            check_text(f'`{each.name}`', value)
        if declared.choices and value not in declared.choices:
            choices = ', '.join(declared.choices)
            raise OptionError(f'`{each.name}` is {value!r}: choose one of {choices}')
        if declared.bounds:
            least, most = declared.bounds
            if not least <= value <= most:
                text = str(value) if abs(value) < 10**20 else 'a number of over 20 digits'
                raise OptionError(f'`{each.name}` is {text}: give {least} to {most}')


def check_text(name: str, value: str) -> None:
    """Refuse a text that cannot be a file name.

    In Python's file names U+DC80 to U+DCFF stand for bytes that are not UTF-8; other surrogates
    cannot come from a file.

    Raises:
        OptionError: It is too long, or has a null character or another surrogate.
    """
    if len(value) > LONGEST:
        raise OptionError(f'{name} has {len(value)} characters: give {LONGEST} at most')
    if any(
        each == '\0' or '\ud800' <= each < '\udc80' or '\udcff' < each < '\ue000' for each in value
    ):
        raise OptionError(f'{name} is {value!a}, which no file can be called: rename it')


def check_classes(classes: list[str]) -> None:
    """Refuse names of classes that a net or a page cannot have.

    Raises:
        OptionError: There are none or too many, or two have one name; or as ``check_text``.
    """
    if not 0 < len(classes) <= MOST_CLASSES:
        raise OptionError(f'there are {len(classes)} classes: give 1 to {MOST_CLASSES}')
    for name in classes:
        check_text('the name of a class', name)
    if len(set(classes)) < len(classes):
        raise OptionError('two classes have the same name: rename one')
