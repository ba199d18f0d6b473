"""Prose of a chapter as plain Markdown, with numbers in place of references."""

import base64
import mimetypes
from collections.abc import Mapping
from pathlib import Path

from d2l_ft.chapter.book import Book, Page, Target
from d2l_ft.chapter.inline import render
from d2l_ft.chapter.reader import Block, Equation, Fence, Figure, Heading, Table, Text, parse_info
from d2l_ft.chapter.safe import check_inside, is_active, make_harmless
from d2l_ft.chapter.words import WORDS, reference

CITATIONS = ('cite', 'citet', 'citep')
SILENT = ('bibliography', 'width', 'label', 'eqlabel')


class Plain:
    """Renders blocks as Markdown that stands alone; notebooks use it.

    Args:
        page: The chapter.
        labels: Label -> target, over all pages of the language.
        book: Its book; unless it is trusted, what could run is shown as text.
    """

    def __init__(self, page: Page, labels: Mapping[str, Target], book: Book) -> None:
        self.page, self.labels, self.book = page, labels, book
        self.words = WORDS[page.language]
        self.numbers = {id(block): target for block, target in page.numbered_blocks}

    def block(self, block: Block) -> str:
        """Return a block as Markdown."""
        if isinstance(block, Heading):
            return self.heading(block)
        if isinstance(block, Figure):
            return self.figure(block)
        if isinstance(block, Table):
            return self.table(block)
        if isinstance(block, Equation):
            return self.equation(block)
        if isinstance(block, Fence):
            return self.fence(block)
        assert isinstance(block, Text)
        return self.text(block.source)

    def number(self, block: Block) -> str:
        """Return the number of a block with its words, such as 'Fig. 13.2.1', or ''."""
        target = self.numbers.get(id(block))
        return reference(self.page.language, target.kind, target.number) if target else ''

    def text(self, source: str) -> str:
        """Return prose without marks."""
        return self.safe(render(source, self.mark))

    def safe(self, text: str) -> str:
        """Return Markdown as it may be shown."""
        return text if self.book.settings.trusted else make_harmless(text)

    def mark(self, name: str, value: str) -> str:
        """Return what a mark in prose shows."""
        if name in ('numref', 'ref', 'eqref'):
            target = self.labels.get(value)
            if target is None:
                return f'`{value}`'
            words = reference(self.page.language, target.kind, target.number)
            return self.link(value, target.title if name == 'ref' else words)
        if name in CITATIONS:
            return '[' + ', '.join(key.strip() for key in value.split(',')) + ']'
        return '' if name in SILENT else f':{name}:`{value}`'

    def link(self, label: str, words: str) -> str:
        """Return a reference to a label; in plain Markdown it has no link."""
        return words

    def heading(self, block: Heading) -> str:
        """Return a heading with its number."""
        target = self.numbers.get(id(block))
        number = f'{target.number} ' if target and block.level < 3 else ''
        return f'{"#" * block.level} {number}{self.text(block.text)}'

    def figure(self, block: Figure) -> str:
        """Return a picture that is part of the text, and its caption."""
        caption = self.text(block.caption)
        path = self.picture(block)
        if path is None:
            return f'*{self.number(block)}: {caption} ({self.words["active"]})*'
        uri = data_uri(path)
        return f'![{caption}]({uri})\n\n*{self.number(block)}: {caption}*'

    def picture(self, block: Figure) -> Path | None:
        """Return the file of a figure, or None if it could run something in an untrusted book."""
        path = check_inside(self.book.root, self.page.path.parent / block.path)
        return path if self.may_show(path) else None

    def may_show(self, path: Path) -> bool:
        """Tell whether a picture is shown: one that can run something only in a trusted book."""
        if self.book.settings.trusted or not path.is_file():
            return True
        return not is_active(path.read_bytes(), path.suffix)

    def table(self, block: Table) -> str:
        """Return a table under its caption."""
        rows = self.safe('\n'.join(self.text(row) for row in block.rows))
        if not block.caption:
            return rows
        number = self.number(block)
        return f'*{number + ": " if number else ""}{self.text(block.caption)}*\n\n{rows}'

    def fence(self, block: Fence) -> str:
        """Return a plain fence; a list of chapters, ``toc``, is only for d2lbook and left out."""
        if block.info == 'toc':
            return ''
        ticks = fence_for(block.source)
        return f'{ticks}{self.language(block.info)}\n{block.source}\n{ticks}'

    def language(self, info: str) -> str:
        """Return the language of a fence, such as 'bash' of 'bash' and of '{.bash}'."""
        classes, _, _ = parse_info(info)
        return next(iter(sorted(classes)), '' if info.startswith('{') else info.partition(' ')[0])

    def equation(self, block: Equation) -> str:
        """Return a displayed formula, with its number if it has a label."""
        target = self.numbers.get(id(block))
        tag = f' \\tag{{{target.number}}}' if target else ''
        return self.safe(f'$$\n{block.tex}{tag}\n$$')


def fence_for(source: str) -> str:
    """Return a fence that does not occur in a text."""
    ticks = '```'
    while ticks in source:
        ticks += '`'
    return ticks


def data_uri(path: Path) -> str:
    """Return a picture as a data URI, or its name if there is no such file."""
    if not path.is_file():
        return str(path.name)
    mime = mimetypes.guess_type(path.name)[0] or 'application/octet-stream'
    return f'data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}'
