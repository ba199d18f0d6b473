"""A Sphinx extension that writes the reference pages from the code.

A line ``<!-- generated: PART -->`` in a page is replaced by what the function of ``PARTS`` returns,
in Markdown, before the page is read.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import click
from docutils import nodes

import d2l_ft
from d2l_ft.cli.main import main
from d2l_ft.convert.graph import OTHER_NAMES
from d2l_ft.convert.rules import RULES

MARK = re.compile(r'<!-- generated: (\w+) -->')


def commands() -> str:
    """Return a section for each command: usage, help, arguments and options."""
    return '\n'.join(section(main, click.Context(main, info_name='d2l-ft'), 2))


def section(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    """Yield the lines of a command, then those of the commands in it.

    Args:
        command: The command.
        context: Its context, whose path names it.
        level: Of its heading.
    """
    usage = ' '.join([context.command_path, *command.collect_usage_pieces(context)])
    yield from ('#' * level + f' {context.command_path}', '', '```text', usage, '```', '')
    for paragraph in inspect.cleandoc(command.help or '').split('\n\n'):
        yield from example(paragraph) if paragraph.startswith('\b') else (prose(paragraph), '')
    records = [
        record for parameter in command.params if (record := parameter.get_help_record(context))
    ]
    if records:
        yield from ('| Option | Meaning |', '|---|---|')
        for name, text in records:
            yield f'| `{name.replace("|", chr(92) + "|")}` | {prose(text)} |'
        yield ''
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.commands[name]
            yield from section(child, click.Context(child, context, name), level + 1)


def example(paragraph: str) -> Iterator[str]:
    r"""Yield the lines of a paragraph after ``\b``: a title, and commands as a block of code.

    What stands beside a command becomes a comment, so that the whole can be copied.
    """
    title, *lines = paragraph.removeprefix('\b').strip('\n').split('\n')
    shown = [re.sub(r'(\S {2,})(?=\S)', r'\1# ', line.strip()) for line in lines]
    yield from (title, '', '```sh', *shown, '```', '')


def prose(text: str) -> str:
    """Return plain text as Markdown on one line: options as code, and nothing that formats."""
    plain = re.sub(r'([\\`*_<>\[\]|#])', r'\\\1', ' '.join(text.split()))
    return re.sub(r'(?<![\w-])(--[a-z][\w-]*)|\b(D2L\\_FT\\_\w+)', as_code, plain)


def as_code(match: re.Match[str]) -> str:
    """Return a name in text that was escaped as code, where nothing is escaped."""
    return f'`{match[0].replace(chr(92), "")}`'


def names() -> str:
    """Return the public names, grouped by the module in which they are defined."""
    groups: dict[str, list[str]] = {}
    constants = []
    for name in d2l_ft.__all__:
        value = getattr(d2l_ft, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            constants.append(name)
        elif name != 'Backend':  # which has a section of its own
            groups.setdefault(value.__module__, []).append(name)
    lines = [f'Constants: {", ".join(f"`{name}`" for name in constants)}.', '']
    for module, members in groups.items():
        summary = (importlib.import_module(module).__doc__ or '').partition('\n\n')[0]
        lines += [f'### {module.removeprefix("d2l_ft.")}', '', ' '.join(summary.split()), '']
        for name in members:
            kind = 'class' if inspect.isclass(getattr(d2l_ft, name)) else 'function'
            lines += directive(kind, name)
    return '\n'.join(lines)


def protocol() -> str:
    """Return the backend protocol."""
    # with ``loader``, which it inherits
    return '\n'.join(directive('class', 'Backend', '   :inherited-members: Protocol'))


def directive(kind: str, name: str, *options: str) -> list[str]:
    """Return the lines that document a public name."""
    return ['```{eval-rst}', f'.. auto{kind}:: d2l_ft.{name}', *options, '```', '']


def packages() -> str:
    """Return a section for each package of d2l_ft: what its docstring says."""
    lines = []
    for each in pkgutil.iter_modules(d2l_ft.__path__):
        module: Any = importlib.import_module(f'd2l_ft.{each.name}') if each.ispkg else None
        if module:
            lines += [f'### d2l_ft.{each.name}', '', inspect.cleandoc(module.__doc__ or ''), '']
    return '\n'.join(lines)


def operators() -> str:
    """Return MXNet's operators that can be translated, those with other names in a table."""
    ops = sorted(RULES, key=lambda each: each.lower().lstrip('_'))
    alone = ', '.join(f'`{op}`' for op in ops if op not in OTHER_NAMES)
    lines = [f'{alone}.', '', 'And these, by other names too:', '']
    lines += ['| Operator | Other names that are read |', '|---|---|']
    for op in ops:
        if op in OTHER_NAMES:
            others = ', '.join(f'`{each}`' for each in OTHER_NAMES[op])
            lines.append(f'| `{op}` | {others} |')
    return '\n'.join(lines)


PARTS = {each.__name__: each for each in (commands, names, protocol, packages, operators)}
"""Name in a page -> what writes the part."""


def fill(_app: Any, _page: str, source: list[str]) -> None:
    """Replace the marks of a page."""
    source[0] = MARK.sub(lambda match: PARTS[match[1]](), source[0])


def set_dashes(_app: Any, tree: nodes.document) -> None:
    """Write the dash between a parameter and its meaning as one; those of options stay."""
    for text in list(tree.findall(nodes.Text)):
        if text == ' -- ':
            text.parent.replace(text, nodes.Text(' \N{EN DASH} '))


def setup(app: Any) -> dict[str, Any]:
    """Register the extension."""
    app.connect('source-read', fill)
    app.connect('doctree-read', set_dashes)
    return {'version': d2l_ft.__version__, 'parallel_read_safe': True}
