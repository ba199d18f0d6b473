"""Messages of the library name arguments, and each of them is an option."""

import ast
import re
from pathlib import Path

from d2l_ft.cli.options import FLAGS

ROOT = Path(__file__).resolve().parents[3]

COMMANDS = re.compile(r'(d2l-ft|pip install|python -m|pytest) [^,:]*')
"""A command line, which may name flags."""


def texts_of_the_library():
    """Return file:line and text of each string outside the command line but docstrings."""
    paths = [*(ROOT / 'd2l_ft').rglob('*.py'), *(ROOT / 'backends').glob('d2l_ft_*/*.py')]
    for path in paths:
        if path.parent.name == 'cli':
            continue
        tree = ast.parse(path.read_text())
        parts = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr | ast.JoinedStr)
            for part in ast.iter_child_nodes(node)
            if isinstance(part, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = ''.join(
                    getattr(part, 'value', '')
                    for part in node.values
                    if isinstance(part, ast.Constant)
                )
            elif isinstance(node, ast.Constant) and id(node) not in parts:
                text = node.value
            else:
                continue
            if isinstance(text, str):
                yield f'{path.relative_to(ROOT)}:{node.lineno}', text


def test_the_library_names_arguments_and_not_flags():
    """What is one word is an argument of another program; styles of pages have -- as well."""
    flags = [
        (place, text)
        for place, text in texts_of_the_library()
        if re.search(r'(?<![\w-])(?<!var\()--[a-z]', COMMANDS.sub('', text))
        and ' ' in text
        and '{' not in text
    ]
    assert flags == []


def test_each_argument_that_a_message_names_is_an_option():
    named = [
        (place, name)
        for place, text in texts_of_the_library()
        for name in re.findall(r'(?<!`)`([a-z_]+)(?:=[^`]*)?`(?!`)', text)
    ]
    assert len(named) > 20
    assert [each for each in named if each[1] not in {*FLAGS, 'reduction'}] == []
