"""Prose, cells and outputs of a chapter as the Markdown that Sphinx reads (MyST)."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from pygments.lexers import find_lexer_class_by_name
from pygments.util import ClassNotFound

from d2l_ft.chapter.book import Book, Page, Target, cell_ids, goes_with
from d2l_ft.chapter.freshness import code_digests, has_failed
from d2l_ft.chapter.outputs import Output, Run, folder
from d2l_ft.chapter.reader import ALL, Block, Code, Equation, Figure, Heading, Tab, Table
from d2l_ft.chapter.render import Plain, fence_for

NOTEBOOKS = 'notebooks'
"""Folder of the notebooks, beside the pages."""

Variants = dict[str, str]
"""Tab -> Markdown."""


class Myst(Plain):
    """Renders a page as the Markdown that Sphinx reads (MyST).

    Args:
        book: The chapters.
        page: One of them.
        labels: Label -> target of the language.
        runs: Tab -> its stored outputs.
        tabs: Whether variants go into tabs; otherwise below each other, each under its name.
    """

    def __init__(
        self,
        book: Book,
        page: Page,
        labels: Mapping[str, Target],
        runs: Mapping[str, Run],
        tabs: bool = True,
    ) -> None:
        super().__init__(page, labels, book)
        self.runs, self.tabs = runs, tabs
        self.ids = cell_ids(page.chapter)
        self.pictures: dict[str, Path] = {}

    def document(self) -> str:
        """Return the whole page; ``pictures`` then has what it shows."""
        parts: list[str] = []
        for group in group_blocks(self.page.chapter.blocks):
            first = group[0]
            if isinstance(first, Code):
                parts.append(self.cell([each for each in group if isinstance(each, Code)]))
            elif isinstance(first, Tab):
                parts.append(self.prose_tabs([each for each in group if isinstance(each, Tab)]))
            else:
                parts.append(self.block(first))
                if first is self.page.chapter.blocks[0] and isinstance(first, Heading):
                    parts.append(self.provenance_box())
        parts.append(self.discussions())
        return '\n\n'.join(part for part in parts if part.strip()) + '\n'

    def link(self, label: str, words: str) -> str:
        """Return a reference to a label; a link, if its page is built too."""
        target = self.labels[label]
        if target.page not in {page.stem for page in self.book.pages}:
            return words
        page = '' if target.page == self.page.stem else f'{self.book.identify(target.page)[0]}.md'
        return f'[{words}]({page}#{anchor(label)})'

    def heading(self, block: Heading) -> str:
        """Return a heading with its number and anchor."""
        mark = f'({anchor(block.label)})=\n' if block.label else ''
        return mark + super().heading(block)

    def figure(self, block: Figure) -> str:
        """Return a picture with its caption below."""
        caption, path = self.text(block.caption), self.picture(block)
        if path is None:
            return f'**{self.number(block)}** {caption} *({self.words["active"]})*'
        name = self.add_picture(path)
        options = [f':alt: {quote_option(plain_text(caption))}']
        if block.label:
            options.append(f':name: {anchor(block.label)}')
        if block.width:
            options.append(f':width: {quote_option(block.width)}')
        number = f'**{self.number(block)}** ' if self.number(block) else ''
        return directive('figure', name, options, f'{number}{caption}')

    def table(self, block: Table) -> str:
        """Return a table under its caption."""
        rows = self.safe('\n'.join(self.text(row) for row in block.rows))
        options = [f':name: {anchor(block.label)}'] if block.label else []
        number = f'**{self.number(block)}** ' if self.number(block) else ''
        if not (block.caption or number):
            return rows
        return directive('table', f'{number}{self.text(block.caption)}', options, rows)

    def language(self, info: str) -> str:
        """Return the language of a fence, or none if it cannot be coloured."""
        name = super().language(info)
        return name if name and can_be_coloured(name) else ''

    def equation(self, block: Equation) -> str:
        """Return a displayed formula; the number in its tag is set at the margin."""
        mark = f'({anchor(block.label)})=\n' if block.label else ''
        return mark + super().equation(block)

    def add_picture(self, path: Path) -> str:
        """Note a picture that the page shows, and return the name under which it is copied."""
        name = f'{self.page.stem}-{path.parent.name}-{path.name}'
        self.pictures[name] = path
        return name

    def provenance_box(self) -> str:
        """Return the box that says how the outputs were made, and links to the notebooks."""
        lines = []
        for tab, title in self.book.settings.tabs.items():
            if not self.page.chapter.cells(tab):
                continue
            run = self.runs.get(tab)
            lines.append(f'* {self.provenance(title, run)}')
        if not lines:
            return ''
        text = '\n'.join(lines) + (f'\n\n{self.downloads()}' if self.tabs else '')
        return directive('admonition', self.words['outputs'], [':class: d2l-made'], text)

    def provenance(self, title: str, run: Run | None) -> str:
        """Return a line on the data, device and versions that a tab's outputs were made with."""
        if run is None:
            return f'{title}: {self.words["never"]}'
        made = run.made
        names = [
            name
            for name in ('mxnet', 'gluoncv', 'torch', 'torchvision')
            if name in made['versions']
        ]
        versions = ', '.join(f'{name} {made["versions"][name]}' for name in names)
        data = self.words.get(made['data'], made['data'])
        return self.words['made'].format(
            title=f'**{title}**',
            data=data,
            device=made['device'],
            versions=versions,
            date=made['date'],
        )

    def downloads(self) -> str:
        """Return the links to the page's notebooks."""
        links = [
            f'<a href="{NOTEBOOKS}/{quote(self.page.origin)}-{tab}{kind}.ipynb" download>'
            f'{self.safe(title)}{text}</a>'
            for tab, title in self.book.settings.tabs.items()
            if self.page.chapter.cells(tab)
            for kind, text in (('', ''), ('-colab', f' ({self.words["colab"]})'))
        ]
        return f'{self.words["notebook"]}: {" · ".join(links)}'

    def discussions(self) -> str:
        """Return the links to the forum."""
        threads = self.book.settings.discussions.get(self.page.origin, {})
        links = [
            f'[{self.book.settings.tabs.get(tab, tab)}]({url})' for tab, url in threads.items()
        ]
        return self.safe(f'{self.words["discuss"]}: {" · ".join(links)}') if links else ''

    def prose_tabs(self, group: Sequence[Tab]) -> str:
        """Return consecutive prose of some tabs."""
        found: Variants = {}
        for block in group:
            text = '\n\n'.join(self.block(each) for each in block.blocks)
            names = self.book.tabs if block.tabs == (ALL,) else block.tabs
            for tab in names:
                found[tab] = f'{found[tab]}\n\n{text}' if tab in found else text
        return self.variants(found)

    def cell(self, group: Sequence[Code]) -> str:
        """Return a code cell with its outputs, shown once if all tabs have the same."""
        sources: Variants = {}
        outputs: Variants = {}
        for cell in group:
            for tab in self.book.tabs:
                if cell.runs_in(tab):
                    sources[tab] = code_block(cell.of_tab(tab))
                    outputs[tab] = self.outputs(self.ids[cell.line], tab)
        whole = set(sources) == set(self.book.tabs)
        if whole and len(set(sources.values())) == 1:
            same = (
                len({self.comparable_outputs(self.ids[group[0].line], tab) for tab in sources}) == 1
            )
            below = next(iter(outputs.values())) if same else self.variants(outputs)
            return f'{next(iter(sources.values()))}\n\n{below}'
        return self.variants({tab: f'{text}\n\n{outputs[tab]}' for tab, text in sources.items()})

    def outputs(self, name: str, tab: str) -> str:
        """Return the stored outputs of a cell in a tab."""
        run = self.runs.get(tab)
        if run is None:
            return ''
        stored_outputs = run.cells[name].outputs if name in run.cells else ()
        found = [self.output(each, name, tab) for each in stored_outputs]
        # only if it failed with the present code
        if has_failed(name, code_digests(self.page, tab)[name], run):
            found.append(f'**{self.words["failed"]}**')
        return '\n\n'.join(found)

    def comparable_outputs(self, name: str, tab: str) -> tuple[object, ...]:
        """Return the outputs of a cell in a tab, in a form to compare with another tab's."""
        run = self.runs.get(tab)
        found = run.cells[name].outputs if run and name in run.cells else ()
        place = folder(self.book.root, self.page.origin, tab)
        return tuple(
            (each.kind, each.stream, (place / each.file).read_bytes() if each.file else each.text)
            for each in found
        )

    def output(self, output: Output, cell: str, tab: str) -> str:
        """Return one output."""
        if output.kind != 'picture':
            ticks = fence_for(output.text)
            kind = 'd2l-error' if output.stream == 'stderr' else 'd2l-output'
            text = output.text.rstrip('\n')
            return f'{ticks}{{code-block}} text\n:class: {kind}\n\n{text}\n{ticks}'
        path = folder(self.book.root, self.page.origin, tab) / output.file
        if not self.may_show(path):
            text = self.output(replace(output, kind='text'), cell, tab)
            return f'*{self.words["active"]}*\n\n{text}'
        alt = f'{self.words["output"]}: {cell} ({self.book.settings.tabs[tab]})'
        return directive(
            'image',
            self.add_picture(path),
            [f':alt: {quote_option(alt)}', ':class: d2l-picture'],
            '',
        )

    def variants(self, found: Variants) -> str:
        """Return the variants of some tabs: as tabs, or each under its name."""
        titles = self.book.settings.tabs
        found = {tab: text for tab, text in found.items() if text.strip()}
        if not self.tabs:
            return '\n\n'.join(
                f'**{titles[tab]}**\n\n{found[tab]}' for tab in titles if tab in found
            )
        items = [
            directive('tab-item', titles[tab], [f':sync: {tab}'], found[tab], 4)
            for tab in titles
            if tab in found
        ]
        return (
            directive('tab-set', '', [':sync-group: tab'], '\n\n'.join(items), 5) if items else ''
        )


def can_be_coloured(language: str) -> bool:
    """Tell whether Pygments knows a language."""
    try:
        find_lexer_class_by_name(language)
    except ClassNotFound:
        return False
    return True


def group_blocks(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Yield blocks; the variants of a code cell, and prose of tabs, together."""
    group: list[Block] = []
    for block in blocks:
        if group and not belongs(group, block):
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def belongs(group: list[Block], block: Block) -> bool:
    """Tell whether a block goes with those of a group."""
    if isinstance(block, Code) and isinstance(group[-1], Code):
        return goes_with([each for each in group if isinstance(each, Code)], block)
    return isinstance(block, Tab) and isinstance(group[-1], Tab)


def anchor(label: str) -> str:
    """Return a label as the anchor of an address."""
    return re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')


def plain_text(markdown: str) -> str:
    """Return Markdown in one line without its marks, for the text of a picture."""
    return ' '.join(re.sub(r'[*`\[\]]', '', markdown).split())


def quote_option(text: str) -> str:
    """Return a text as the value of a directive's option, with quotes for special characters."""
    return json.dumps(text, ensure_ascii=False)


def code_block(source: str) -> str:
    """Return code as a block that is coloured; ``#@save`` stays visible."""
    ticks = fence_for(source)
    return f'{ticks}{{code-block}} python\n:class: d2l-code\n\n{source}\n{ticks}'


def directive(name: str, title: str, options: Sequence[str], text: str, colons: int = 3) -> str:
    """Return a directive; more colons where it holds others."""
    fence = ':' * colons
    head = '\n'.join([f'{fence}{{{name}}} {title}'.rstrip(), *options])
    return f'{head}\n\n{text}\n{fence}' if text else f'{head}\n{fence}'
