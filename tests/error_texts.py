"""A plugin of pytest that tells which places that make an error of ours the tests came by.

``pytest -p error_texts --error-texts FILE`` writes for each place its message and the tests that
provoked it, and fails if one was not provoked. Only what the tests' own process makes counts: an
error text that a user can see deserves a test that sees it without a command line around it.
"""

import ast
import collections
import os
import sys
from pathlib import Path

import pytest

from d2l_ft import errors

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [ROOT / 'd2l_ft', *sorted((ROOT / 'backends').glob('d2l_ft_*'))]
NAMES = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.D2LFTError)
}


def places() -> list[tuple[str, int, int, str]]:
    """Return file, first and last line, and source of each call that makes an error."""
    found = []
    for source in SOURCES:
        for path in sorted(source.rglob('*.py')):
            text = path.read_text()
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and _name(node.func) in NAMES:
                    name = str(path.relative_to(ROOT))
                    found.append((name, node.lineno, node.end_lineno, ast.unparse(node)))
    return found


def _name(function: ast.expr) -> str:
    """Return the last part of what is called: ``errors.DataError`` is ``DataError``."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, 'id', '')


class Recorder:
    """Notes where each error is made while tests run."""

    def __init__(self, report: Path) -> None:
        self.report = report
        self.seen: dict[tuple[str, int], set[str]] = collections.defaultdict(set)
        self.messages: dict[tuple[str, int], str] = {}
        plain = errors.D2LFTError.__init__

        def noted(error: Exception, *arguments: object) -> None:
            plain(error, *arguments)
            frame = sys._getframe(1)
            while frame.f_code.co_filename == errors.__file__:
                frame = frame.f_back  # the class has an __init__ of its own
            place = (frame.f_code.co_filename, frame.f_lineno)
            self.seen[place].add(os.environ.get('PYTEST_CURRENT_TEST', '').partition(' ')[0])
            self.messages[place] = str(error)

        errors.D2LFTError.__init__ = noted

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table; the run fails if a place is missing in it."""
        rows, missing = [], []
        for name, first, last, source in places():
            at = [
                place
                for place in self.seen
                if place[0] == str(ROOT / name) and first <= place[1] <= last
            ]
            tests = sorted(set().union(*(self.seen[place] for place in at)))
            said = self.messages[at[0]] if at else ''
            (rows if at else missing).append((f'{name}:{first}', said or source, tests))
        text = [f'{len(rows)} of {len(rows) + len(missing)} places were provoked.', '']
        text += [f'{place}: NOT PROVOKED: {source}' for place, source, _ in missing]
        text += [f'{place}: {said!r}\n    {", ".join(tests)}' for place, said, tests in rows]
        self.report.write_text('\n'.join(text) + '\n')
        print(f'\n{self.report}: {text[0]}')
        if missing and session.exitstatus == 0:
            session.exitstatus = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption('--error-texts', type=Path, help='write which error texts were provoked')


def pytest_configure(config: pytest.Config) -> None:
    """Begin to note, if the option was given."""
    if report := config.getoption('--error-texts'):
        config.pluginmanager.register(Recorder(report), 'error-texts')
