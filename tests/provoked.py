"""Which of the places that raise an error of ours the tests came by, so that none is untested."""

import ast
import sys
from pathlib import Path

import d2l_ft
from d2l_ft import errors

ROOT = Path(d2l_ft.__file__).parent
FOLDERS = (ROOT, ROOT.parent / 'backends')
KINDS = {name for name, each in vars(errors).items() if isinstance(each, type)}

seen: set[tuple[str, int]] = set()
"""(file, line) of where an error was made."""


def watch() -> None:
    """Note from now on where errors are made in this process."""

    def note(self: errors.D2LFTError, *args: object) -> None:
        frame = sys._getframe(1)
        seen.add((frame.f_code.co_filename, frame.f_lineno))
        Exception.__init__(self, *args)

    errors.D2LFTError.__init__ = note  # type: ignore[method-assign]


def places() -> list[tuple[str, range]]:
    """Return the file and the lines of each expression that makes an error of ours."""
    found = []
    for file in sorted(each for folder in FOLDERS for each in folder.rglob('*.py')):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in KINDS
            ):
                found.append((str(file), range(node.lineno, (node.end_lineno or 0) + 1)))
    return found


def missing() -> list[str]:
    """Return the places at which no error was made, as file:line."""
    return [
        f'{Path(file).relative_to(ROOT.parent)}:{lines[0]}'
        for file, lines in places()
        if not any((file, line) in seen for line in lines)
    ]
