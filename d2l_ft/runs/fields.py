"""What an option, a config and a checkpoint may hold: one declaration serves all three.

A field of a dataclass that is made by ``option`` carries its default, its help and what it may
hold. The command line makes its options of these, and ``check_fields`` checks what came from there,
from Python or from a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from d2l_ft.errors import OptionError

MOST_CLASSES = 10**5

LONGEST = 4096
"""Characters of a text: what a path may have."""


@dataclass(frozen=True)
class Option:
    """What is known of a field besides its name, type and default.

    Attributes:
        help: What it does; other options are named as in errors (``d2l_ft.errors``).
        bounds: The least and the largest whole number.
        choices: The texts that it may be; without any it may be each text.
        flag: Its name on the command line; '' is that of the field.
        metavar: What stands for the value in the help.
        may_change: Whether a run may go on with another value, as no result depends on it.
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
    """Refuse values that the fields of a dataclass may not hold.

    Raises:
        OptionError: A number is out of its bounds, a text none of the choices or as ``check_text``.
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
    """Refuse a text that no file name can hold.

    Bytes that are no UTF-8 are U+DC80 to U+DCFF in Python's names of files; other surrogates are of
    no file.

    Raises:
        OptionError: It is too long, has a character 0, or such a surrogate.
    """
    if len(value) > LONGEST:
        raise OptionError(f'{name} has {len(value)} characters: give {LONGEST} at most')
    if any(
        each == '\0' or '\ud800' <= each < '\udc80' or '\udcff' < each < '\ue000' for each in value
    ):
        raise OptionError(f'{name} is {value!a}, which no file can be called: rename it')


def check_classes(classes: list[str]) -> None:
    """Refuse names of classes that no net or page can have.

    Raises:
        OptionError: There are none or too many, or two have one name; or as ``check_text``.
    """
    if not 0 < len(classes) <= MOST_CLASSES:
        raise OptionError(f'there are {len(classes)} classes: give 1 to {MOST_CLASSES}')
    for name in classes:
        check_text('the name of a class', name)
    if len(set(classes)) < len(classes):
        raise OptionError('two classes have the same name: rename one')
