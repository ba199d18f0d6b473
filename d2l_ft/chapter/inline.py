"""Marks inside prose: references, citations, slide marks, code and formulas."""

import re
from collections.abc import Callable, Iterator

TOKEN = re.compile(
    r'(?P<mark>:(?P<name>[a-z]+):`(?P<value>[^`]*)`)'
    r'|(?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))'
    r'|(?P<math>(?<!\\)\$\$.+?\$\$|(?<!\\)\$[^$\n]+?(?<!\\)\$)'
    r'|(?P<slide>\[\*\*|\*\*\]|\(\*\*|\*\*\)|\[~~|~~\]|\(~~|~~\))',
    re.DOTALL,
)
CLOSE = {'[**': '**]', '(**': '**)', '[~~': '~~]', '(~~': '~~)'}
"""Slide mark -> its partner."""

Token = tuple[str, str, str]
"""(kind, text, name of a mark); kinds are text, mark, code, math, slide."""


def tokens(text: str) -> Iterator[Token]:
    """Yield the parts of a text; code and formulas hide what they hold."""
    at = 0
    for found in TOKEN.finditer(text):
        if found.start() > at:
            yield 'text', text[at : found.start()], ''
        if found['mark']:
            yield 'mark', found['value'], found['name']
        else:
            kind = next(each for each in ('code', 'math', 'slide') if found[each])
            yield kind, found[0], ''
        at = found.end()
    if at < len(text):
        yield 'text', text[at:], ''


def find_unbalanced(text: str) -> str:
    """Return the first slide mark without a partner, or ''."""
    open_marks: list[str] = []
    for kind, value, _ in tokens(text):
        if kind != 'slide':
            continue
        if value in CLOSE:
            open_marks.append(value)
        elif not open_marks or CLOSE[open_marks.pop()] != value:
            return value
    return open_marks[0] if open_marks else ''


def render(text: str, mark: Callable[[str, str], str]) -> str:
    """Return prose without slide marks, as pages show it.

    Args:
        text: The source; text between ``[~~`` and ``~~]`` is for slides only.
        mark: (name, value) of a mark such as (numref, fig_x) -> what to show.
    """
    parts: list[str] = []
    open_marks: list[str] = []
    for kind, value, name in tokens(text):
        if kind == 'slide':
            if value in CLOSE:
                open_marks.append(value)
            elif open_marks:
                open_marks.pop()
        elif not any(each in ('[~~', '(~~') for each in open_marks):
            parts.append(mark(name, value) if kind == 'mark' else value)
    return ''.join(parts)


def marks(text: str) -> list[tuple[str, str]]:
    """Return the (name, value) of every mark in a text."""
    return [(name, value) for kind, value, name in tokens(text) if kind == 'mark']


def slide_marks(text: str) -> list[str]:
    """Return every slide mark in a text, in order."""
    return [value for kind, value, _ in tokens(text) if kind == 'slide']
