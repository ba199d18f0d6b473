"""Options that several commands have, those that are made of fields, and how flags are named."""

import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click

from d2l_ft.backend.registry import VARIABLE, backend_names
from d2l_ft.runs.fields import Option
from d2l_ft.runs.settings import Settings, option_fields
from d2l_ft.system.console import say


class FileType(click.Path):
    """A path; ``~`` is the home of a user, also if no shell has expanded it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        return Path(os.fsdecode(os.path.expanduser(super().convert(value, param, ctx))))


FILE = FileType()


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --backend."""
    text = f'Framework: {", ".join(backend_names())}.  [default: {VARIABLE}, or pytorch]'
    return click.option('--backend', help=text)(command)


def offline_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --offline."""

    def forbid(_ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        from d2l_ft.storage.downloads import OFFLINE_VARIABLE

        if value:
            os.environ[OFFLINE_VARIABLE] = '1'

    text = 'Download nothing; use what is in the cache.  [default: D2L_FT_OFFLINE]'
    option = click.option('--offline', is_flag=True, expose_value=False, callback=forbid, help=text)
    return option(command)


SECTIONS = {'data': 'Data', 'model': 'Net', 'optim': 'Training', 'system': 'Computing'}
"""Group of ``Settings`` -> title of its section in the help."""


class SectionOption(click.Option):
    """An option that stands in a section of the help."""

    def __init__(self, *names: Any, section: str, **extra: Any) -> None:
        super().__init__(*names, **extra)
        self.section = section


class SectionCommand(click.Command):
    """A command whose help has sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of no section last."""
        sections: dict[str, list[tuple[str, str]]] = {each: [] for each in SECTIONS.values()}
        for each in self.get_params(ctx):
            if (record := each.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(each, 'section', 'Options'), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each field of ``Settings``."""
    decorators = []
    for name, group in vars(Settings()).items():
        hints = get_type_hints(type(group))
        for each in fields(group):
            declaration: Option = each.metadata['option']
            decorators.append(
                _option(each.name, hints[each.name], each.default, declaration, SECTIONS[name])
            )
    for decorate in reversed(decorators):  # click lists first what is added last
        command = decorate(command)
    return command


def _option(name: str, hint: Any, default: Any, declaration: Option, section: str) -> Any:
    """Return the decorator that adds the option of a field."""
    kind = next(each for each in (*get_args(hint), hint) if isinstance(each, type))
    flag = flag_of(name, declaration)
    extra: dict[str, Any] = {}
    if kind is bool:
        flag += f'/--no-{flag[2:]}' if default else ''
        extra['is_flag'] = True
    elif declaration.choices:
        extra['type'] = click.Choice(declaration.choices)
    else:
        extra['type'] = click.IntRange(*declaration.bounds) if declaration.bounds else kind
    show_default = default is True if kind is bool else default is not None
    return click.option(
        flag,
        name,
        cls=SectionOption,
        section=section,
        default=default,
        metavar=declaration.metavar,
        help=as_flags(declaration.help),
        show_default=show_default and '[default:' not in declaration.help,
        **extra,
    )


def flag_of(name: str, declaration: Option) -> str:
    """Return the flag of a field, such as '--batch-size' of 'batch_size'."""
    return declaration.flag or f'--{name.replace("_", "-")}'


FLAGS = {name: flag_of(name, each.metadata['option']) for name, each in option_fields().items()}
"""Argument of the library -> flag of the command line."""

FLAGS |= {each: f'--{each}' for each in ('offline', 'out', 'resume', 'until', 'images')} | {
    'input_shape': '--input-shape',
    'arch': '--arch',
}

ON_BY_DEFAULT = {name for name, each in option_fields().items() if each.default is True}
"""Options that are on by default, so that the flag to change them is --no-...."""


def as_flags(text: str) -> str:
    """Return a message of the library with each argument replaced by its flag.

    `batch_size` becomes --batch-size, `views=4` becomes --views 4, `freeze=True` --freeze and
    `augment=False` --no-augment.
    """

    def flag(found: re.Match[str]) -> str:
        name, value = found['name'], found['value']
        if name not in FLAGS:
            return found[0]
        if value == 'False':
            return f'--no-{FLAGS[name][2:]}' if name in ON_BY_DEFAULT else f'no {FLAGS[name]}'
        return FLAGS[name] if value in (None, 'True') else f'{FLAGS[name]} {value}'

    return re.sub(r'`(?P<name>\w+)(?:=(?P<value>[^`]*))?`', flag, text)


def say_flags(line: object) -> None:
    """Print a line of the library."""
    say(as_flags(str(line)))
