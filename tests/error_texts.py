"""A plugin of pytest that notes which places that make an error of ours the tests came by.

    python -m pytest -p error_texts --error-texts benchmarks/error_texts.json TESTS

adds to the table what this run saw: for each place its message and the tests that provoked it;
what is no longer in the code or in the tests goes. Several runs make one table, and this file as a
script makes ``docs/errors.md`` of it:

    python tests/error_texts.py

``make errors TESTS=...`` does both. ``tests/unit/project/test_error_texts.py``
compares table and page with the code, so that a new place needs a test.

Only what the tests' own process makes counts: an error that a user can see deserves a test that
sees it without a command line around it.
"""

import ast
import collections
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from d2l_ft import errors

ROOT = Path(__file__).resolve().parents[1]
TABLE, PAGE = ROOT / 'benchmarks/error_texts.json', ROOT / 'docs/errors.md'
SOURCES = [ROOT / 'd2l_ft', *sorted((ROOT / 'backends').glob('d2l_ft_*'))]
NAMES = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.D2LFTError)
}


class Place(NamedTuple):
    """A call that makes an error."""

    file: str
    """Relative to the root."""
    function: str
    """The functions and classes that it stands in, from the outermost: ``Cache.open``."""
    error: str
    """The name of the class."""
    text: str
    """The message with its expressions in braces, or else the source of the argument."""
    lines: range

    @property
    def key(self) -> str:
        """What tells the place from others as long as its text stays, wherever it is moved to."""
        package = next(part for part in self.file.split('/') if part.startswith('d2l_ft'))
        return f'{package} {self.function} {self.error}: {self.text}'


def places() -> list[Place]:
    """Return all of them, in the order of the files."""
    found: list[Place] = []
    for source in SOURCES:
        for path in sorted(source.rglob('*.py')):
            _visit(ast.parse(path.read_text()), str(path.relative_to(ROOT)), (), found)
    return found


def _visit(node: ast.AST, file: str, inside: tuple[str, ...], found: list[Place]) -> None:
    """Add the places below a node."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        inside = (*inside, node.name)
    if (made := _made(node)) is not None:
        name, text = made
        lines = range(node.lineno, node.end_lineno + 1)
        found.append(Place(file, '.'.join(inside), name, text, lines))
    for child in ast.iter_child_nodes(node):
        _visit(child, file, inside, found)


def _made(node: ast.AST) -> tuple[str, str] | None:
    """Return the class and the text of a node that makes an error."""
    if isinstance(node, ast.Call) and _name(node.func) in NAMES:
        return _name(node.func), ', '.join(map(_text, node.args))
    if isinstance(node, ast.Raise) and node.exc and _name(node.exc) in NAMES:
        return _name(node.exc), ''  # the class alone
    return None


def _name(function: ast.expr) -> str:
    """Return the last part of what is called: ``errors.DataError`` is ``DataError``."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, 'id', '')


def _text(argument: ast.expr) -> str:
    """Return a string as it is written, an f-string with its expressions in braces."""
    if isinstance(argument, ast.Constant):
        return str(argument.value)
    if isinstance(argument, ast.JoinedStr):
        return ''.join(
            '{' + ast.unparse(part.value) + '}'
            if isinstance(part, ast.FormattedValue)
            else part.value
            for part in argument.values
        )
    return '{' + ast.unparse(argument) + '}'


class Recorder:
    """Notes where each error is made while tests run."""

    def __init__(self, table: Path) -> None:
        self.table = table
        self.places = places()  # as the files are now, whatever is written meanwhile
        self.seen: dict[str, dict[str, str]] = collections.defaultdict(dict)
        """Key -> test -> message."""
        plain = errors.D2LFTError.__init__

        def noted(error: Exception, *arguments: object) -> None:
            plain(error, *arguments)
            frame = sys._getframe(1)
            while frame.f_code.co_filename == errors.__file__:
                frame = frame.f_back  # the class has an __init__ of its own
            for place in self.places:
                here = str(ROOT / place.file) == frame.f_code.co_filename
                if here and frame.f_lineno in place.lines:
                    self.seen[place.key].setdefault(_test(), _as_shown(str(error)))

        errors.D2LFTError.__init__ = noted

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Add to the table what was seen, and print what was not in any run."""
        known, rows = tests(), load(self.table)
        for key, messages in self.seen.items():
            row = rows.setdefault(key, {'message': '', 'tests': []})
            row['tests'] = sorted(known & {*row['tests'], *messages})
            row['message'] = messages.get(shown(row), row['message'])
        now = {place.key for place in self.places}
        rows = {
            key: rows[key] for key in sorted(rows) if key in now and known & {*rows[key]['tests']}
        }
        self.table.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + '\n')
        for place in untested(self.places, rows):
            print(f'\nno test came by {place.file}:{place.lines[0]}: {place.text}', end='')


def load(table: Path) -> dict[str, Any]:
    """Return the rows of a table by the keys of their places; none where there is no file."""
    return json.loads(table.read_text()) if table.exists() else {}


def shown(row: dict[str, Any]) -> str:
    """Return the test of a row that the page names: one that is about the text, if there is."""
    own = [each for each in row['tests'] if '/test_error_texts.py::' in each]
    return next(iter(own or row['tests']), '')


def untested(found: list[Place], rows: dict[str, Any]) -> list[Place]:
    """Return the places that no test in a table, or none that is still there, comes by."""
    known = tests()
    return [each for each in found if not known & set(rows.get(each.key, {'tests': ()})['tests'])]


def tests() -> set[str]:
    """Return every test as ``tests/unit/data/test_x.py::test_y``."""
    return {
        '::'.join((str(path.relative_to(ROOT)), *name))
        for path in (ROOT / 'tests').rglob('test_*.py')
        for name in _functions(ast.parse(path.read_text()))
    }


def _functions(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield the names of a module's functions, those of classes after their class's."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from ((node.name, *rest) for rest in _functions(node))
        elif isinstance(node, ast.FunctionDef):
            yield (node.name,)


def _test() -> str:
    """Return the test that runs, as file::name without its parameters."""
    return re.split(r'[\[ ]', os.environ.get('PYTEST_CURRENT_TEST', ''), maxsplit=1)[0]


def _as_shown(message: str) -> str:
    """Return a message without what differs from run to run: folders, ports, moments."""
    message = re.sub(r"/tmp/(pytest-of-\w+/pytest-\d+/[^/\s'\":;,()]+|tmp\w{8})", '…', message)
    message = re.sub(r'(127\.0\.0\.1|localhost):\d+', r'\1', message)
    return re.sub(r'\d{8}-\d{6}', '…', message)


GROUPS = (
    ('Command line', ('d2l_ft/cli',)),
    ('Data', ('d2l_ft/data',)),
    ('Source models and weights', ('d2l_ft/sources', 'd2l_ft/models')),
    ('Training', ('d2l_ft/training', 'd2l_ft/optim', 'd2l_ft/runs', 'd2l_ft/report')),
    ('Frameworks and devices', ('d2l_ft/backend', 'd2l_ft/book_api')),
    ('MXNet', ('backends/d2l_ft_mxnet',)),
    ('PyTorch', ('backends/d2l_ft_pytorch',)),
    ('Files, downloads, cache', ('d2l_ft/storage',)),
    ('Chapters', ('d2l_ft/chapter',)),
    ('Proof', ('d2l_ft/parity',)),
    ('Leaving MXNet', ('d2l_ft/convert',)),
)
"""Headings of the page, and how the files begin whose errors stand there."""

VERBS = (
    'add|ask|build|call|choose|convert|copy|correct|fetch|fix|free|give|go|leave|make|move|name|'
    'place|put|read|remove|rename|repair|restore|run|save|see|tell|train|try|update|use|wait|write'
)
ADVICE = re.compile(f'[:;] +(?=(?:{VERBS}) )')
"""What parts the cause from what to do: a colon before a verb."""

INTRODUCTION = """# Errors

Each message is one line: the cause, then what to do. Here are all of them, as a test has seen them;
`…` is a folder of yours. The last column tells when the error comes: it is the name of that test,
whose file stands in benchmarks/error_texts.json.

An argument stands in backticks; the command line shows it as its flag, `views=4` as `--views 4`.

At the command line an error ends the command with code 2, and `--debug` adds the traceback. In
Python `except d2l_ft.errors.D2LFTError` catches every one; the first column is its class.

<!-- Made by  python tests/error_texts.py  of benchmarks/error_texts.json: do not edit. -->
"""

HEADER = '| Error | Cause | What to do | Seen when |\n|---|---|---|---|'


def page(found: list[Place], rows: dict[str, Any]) -> str:
    """Return the page of all errors: cause, what to do, and the test that provokes it."""
    lines = [INTRODUCTION]
    for title, files in GROUPS:
        here = {each.key: each for each in found if each.file.startswith(files)}
        lines += [f'## {title}', '', HEADER]
        lines += sorted({_line(each, rows[key]) for key, each in here.items() if key in rows})
        lines.append('')
    return '\n'.join(lines)


def _line(place: Place, row: dict[str, Any]) -> str:
    """Return a row of the page."""
    cause, *advice = ADVICE.split(row['message'], maxsplit=1)
    when = shown(row).rpartition('::')[2].removeprefix('test_').replace('_', ' ')
    return f'| {place.error} | {_cell(cause)} | {_cell("".join(advice))} | {when} |'


def _cell(text: str) -> str:
    """Return a text as a cell of a Markdown table shows it."""
    return re.sub(r'([|*_<\[\]`\\])', r'\\\1', text)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption('--error-texts', type=Path, help='note which error texts were provoked')


def pytest_configure(config: pytest.Config) -> None:
    """Begin to note, if the option was given."""
    if table := config.getoption('--error-texts'):
        config.pluginmanager.register(Recorder(table), 'error-texts')


if __name__ == '__main__':
    PAGE.write_text(page(places(), load(TABLE)))
