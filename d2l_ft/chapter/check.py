"""Find problems in chapters."""

import ast
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from d2l_ft.chapter.book import Book, Page, cell_ids
from d2l_ft.chapter.claims import broken_claims
from d2l_ft.chapter.freshness import cell_states, parse_cell
from d2l_ft.chapter.inline import marks, slide_marks, tokens
from d2l_ft.chapter.outputs import load_run
from d2l_ft.chapter.reader import (
    Block,
    Code,
    Equation,
    Figure,
    Heading,
    Tab,
    Table,
    prose_of,
    without_magics,
)
from d2l_ft.chapter.render import CITATIONS
from d2l_ft.chapter.saved import hub_differences
from d2l_ft.chapter.translation import stale_paragraphs

WIDTH = 78
"""Columns of a line of code, as in the book."""

SHOWN = 60
"""Characters of a line that are shown where a translation differs from its origin."""

KINDS = (
    'cells',
    'labels',
    'headings',
    'tabs',
    'tables',
    'slide marks',
    'formulas',
    'references',
)
"""What must be the same in a translation and its origin."""

KNOWN_MARKS = ('numref', 'ref', 'eqref', 'bibliography', 'begin_tab', 'end_tab', *CITATIONS)


def problems(book: Book) -> Iterator[str]:
    """Yield one line for every problem, with file and line where there is one.

    Raises:
        ChapterError: A label is used twice, a cell that saves is no Python, or stored outputs are
            damaged.
    """
    for page in book.pages:
        yield from references(book, page)
        yield from cells(book, page)
        if page.stem != page.origin:
            yield from translation(book, page)
            yield from stale_paragraphs(book, page)
    yield from hub_differences(book)
    for page in book.origins():
        for tab in book.tabs:
            run = load_run(book.root, page.origin, tab)
            for each in cell_states(page, tab, run):
                if each.state != 'fresh':
                    where = f'{page.path}:{each.line}'
                    yield f'{where}: the output of {each.cell} in {tab} is {each.state}: {each.why}'
        for line in broken_claims(book, page):
            yield f'{page.path}: the text is no longer supported: {line}'


def notes(book: Book) -> Iterator[str]:
    """Yield one line for everything that is shown in a simpler form than in the book."""
    for page in book.pages:
        for block in page.chapter.walk():
            for name, value in marks_of(block):
                if name in CITATIONS:
                    yield f'{page.path}:{block.line}: the citation {value} is shown as its key'


def marks_of(block: Block) -> list[tuple[str, str]]:
    """Return the marks in the prose of a block, without those of blocks inside it."""
    texts = [] if isinstance(block, Tab) else prose_of(block)
    return [mark for text in texts for mark in marks(text)]


def references(book: Book, page: Page) -> Iterator[str]:
    """Yield references to labels that are not there, unknown marks, and missing pictures."""
    labels = book.labels(page.language)
    for block in page.chapter.walk():
        where = f'{page.path}:{block.line}'
        for name, value in marks_of(block):
            if name in ('numref', 'ref', 'eqref') and value not in labels:
                yield f'{where}: {name} to {value}, which is no label of the {page.language} pages'
            elif name not in KNOWN_MARKS:
                yield f'{where}: the mark {name} is not known'
        if isinstance(block, Figure):
            path = page.path.parent / block.path
            if not path.resolve().is_relative_to(book.root.resolve()):
                yield f'{where}: the picture {block.path} is not in the folder of the book'
            elif not path.is_file():
                yield f'{where}: there is no picture {block.path}'


def cells(book: Book, page: Page) -> Iterator[str]:
    """Yield cells that are not Python, are too wide, or share an id."""
    ids = cell_ids(page.chapter)
    for tab in book.tabs:
        ids_so_far: set[str] = set()
        for cell in page.chapter.cells(tab):
            name, where = ids[cell.line], f'{page.path}:{cell.line}'
            if name in ids_so_far:
                yield f'{where}: the id {name} is used twice in the tab {tab}'
            ids_so_far.add(name)
            source = cell.of_tab(tab)
            if parse_cell(source) is None:
                yield f'{where}: {syntax_error(source)} in the tab {tab}'
    for block in page.chapter.blocks:
        if isinstance(block, Code):
            for number, line in enumerate(block.source.split('\n'), block.line + 1):
                if len(line) > WIDTH:
                    yield f'{page.path}:{number}: code of {len(line)} columns, more than {WIDTH}'


def syntax_error(source: str) -> str:
    """Return what is wrong with a cell that is no Python."""
    try:
        ast.parse(without_magics(source))
    except SyntaxError as error:
        return f'no Python ({error.msg})'
    return 'no Python'


def translation(book: Book, page: Page) -> Iterator[str]:
    """Yield, for each kind, the first place where a translation differs from its origin."""
    origin = next((each for each in book.known_pages if each.stem == page.origin), None)
    if origin is None:
        yield f'{page.path}: its origin {page.origin}.md is not there'
        return
    for kind in KINDS:
        ours, theirs = (list(features(each, kind)) for each in (page, origin))
        for mine, its in zip_longest(ours, theirs):
            if mine is None or its is None or mine[1] != its[1]:
                line = (mine or ours[-1] if ours else (1, ''))[0]
                here, there = first_difference(mine, its), first_difference(its, mine)
                yield (
                    f'{page.path}:{line}: the {kind} part from {origin.path.name}'
                    f'{f":{its[0]}" if its else ""}: {here}, there {there}'
                )
                break


def features(page: Page, kind: str) -> Iterator[tuple[int, Any]]:
    """Yield (line, what a translation must have as well) of a kind."""
    ids = cell_ids(page.chapter)
    for block in page.chapter.walk():
        if kind == 'cells' and isinstance(block, Code):
            yield block.line, (ids[block.line], block.tabs, block.source)
        elif kind == 'labels' and label_of(block):
            yield block.line, label_of(block)
        elif kind == 'headings' and isinstance(block, Heading):
            yield block.line, block.level
        elif kind == 'tabs' and isinstance(block, Tab):
            yield block.line, block.tabs
        elif kind == 'formulas' and isinstance(block, Equation):
            yield block.line, block.tex
        elif kind == 'tables' and isinstance(block, Table):
            yield block.line, len(block.rows)
        if isinstance(block, Tab):
            continue
        for text in prose_of(block):
            if kind == 'slide marks':
                yield from ((block.line, each) for each in slide_marks(text))
            elif kind == 'references':
                # the order of words differs between languages, so within a block it is free
                yield from ((block.line, each) for each in sorted(marks(text)))
            elif kind == 'formulas':
                found = sorted(value for name, value, _ in tokens(text) if name == 'math')
                yield from ((block.line, each) for each in found)


def label_of(block: Block) -> str:
    """Return the label of a block, or ''."""
    return block.label if isinstance(block, Heading | Figure | Table | Equation) else ''


def first_difference(feature: tuple[int, Any] | None, other: tuple[int, Any] | None) -> str:
    """Return the first line of a feature that differs from the other's, shortened to read."""
    if feature is None:
        return 'nothing more'
    mine, its = (parts_of(each) for each in (feature, other))
    for at, line in enumerate(mine):
        if at >= len(its) or line != its[at]:
            theirs = its[at] if at < len(its) else ''
            pairs = enumerate(zip(line, theirs, strict=False))
            same = next((at for at, (a, b) in pairs if a != b), min(len(line), len(theirs)))
            begin = max(0, same - SHOWN // 2) if max(len(line), len(theirs)) > SHOWN else 0
            return ('...' if begin else '') + repr(line[begin : begin + SHOWN])
    return 'nothing more'


def parts_of(feature: tuple[int, Any] | None) -> list[str]:
    """Return the lines of a feature: of a cell its id, its tabs and its code."""
    if feature is None:
        return []
    value = feature[1] if isinstance(feature[1], tuple) else (feature[1],)
    return [
        line
        for each in value
        for line in (', '.join(each) if isinstance(each, tuple) else str(each)).split('\n')
    ]
