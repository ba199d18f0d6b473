"""Make pages and e-books of the chapters with Sphinx.

Every language is a Sphinx project of its own, so that search, words and references are in one
language. Tabs are sphinx-design's: one click switches all of a page, the browser remembers it,
and ``?tab=pytorch`` in an address chooses. Formulas are MathML, so nothing is loaded from
elsewhere. An e-book shows the variants of a tab below each other.
"""

import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from pygments.lexers import find_lexer_class_by_name
from pygments.util import ClassNotFound

from d2l_ft.chapter.book import Book, Page, Target, cell_ids, goes_with
from d2l_ft.chapter.notebooks import colab, make_notebook
from d2l_ft.chapter.outputs import Output, Run, folder, load_run
from d2l_ft.chapter.reader import ALL, Block, Code, Equation, Figure, Heading, Tab, Table
from d2l_ft.chapter.render import Plain, fence_for
from d2l_ft.chapter.words import WORDS
from d2l_ft.errors import ChapterError
from d2l_ft.files import write_atomic

HERE = Path(__file__).parent
NOTEBOOKS = 'notebooks'
EPUB = 'book.epub'
HARMLESS = re.compile(r'Language "\w+" not supported: Docutils-generated text|^\s*$')
"""Docutils has no words in some languages; pages show none of its words."""

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
        super().__init__(page, labels)
        self.book, self.runs, self.tabs = book, runs, tabs
        self.ids = cell_ids(page.chapter)
        self.words = WORDS[page.language]
        self.pictures: dict[str, Path] = {}

    def document(self) -> str:
        """Return the whole page; ``pictures`` then has what it shows."""
        parts: list[str] = []
        for group in grouped(self.page.chapter.blocks):
            first = group[0]
            if isinstance(first, Code):
                parts.append(self.cell([each for each in group if isinstance(each, Code)]))
            elif isinstance(first, Tab):
                parts.append(self.prose_tabs([each for each in group if isinstance(each, Tab)]))
            else:
                parts.append(self.block(first))
                if first is self.page.chapter.blocks[0] and isinstance(first, Heading):
                    parts.append(self.box())
        parts.append(self.discussions())
        return '\n\n'.join(part for part in parts if part.strip()) + '\n'

    def link(self, label: str, words: str) -> str:
        """Return a reference to a label, on whichever page it is."""
        target = self.labels[label]
        page = '' if target.page == self.page.stem else f'{self.book.identify(target.page)[0]}.md'
        return f'[{words}]({page}#{anchor(label)})'

    def heading(self, block: Heading) -> str:
        """Return a heading with its number and anchor."""
        mark = f'({anchor(block.label)})=\n' if block.label else ''
        return mark + super().heading(block)

    def figure(self, block: Figure) -> str:
        """Return a picture with its caption below."""
        name = self.keep(self.page.path.parent / block.path)
        caption = self.text(block.caption)
        options = [f':alt: {quoted(plain_text(caption))}']
        if block.label:
            options.append(f':name: {anchor(block.label)}')
        if block.width:
            options.append(f':width: {block.width}')
        number = f'**{self.number(block)}** ' if self.number(block) else ''
        return directive('figure', name, options, f'{number}{caption}')

    def table(self, block: Table) -> str:
        """Return a table under its caption."""
        rows = '\n'.join(self.text(row) for row in block.rows)
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

    def keep(self, path: Path) -> str:
        """Note a picture that the page shows, and return the name under which it is copied."""
        name = f'{self.page.stem}-{path.parent.name}-{path.name}'
        self.pictures[name] = path
        return name

    def box(self) -> str:
        """Return the box that says on which data the outputs were made, and has the notebooks."""
        lines = []
        for tab, title in self.book.settings.tabs.items():
            if not self.page.chapter.cells(tab):
                continue
            run = self.runs.get(tab)
            lines.append(f'* {self.made(title, run)}')
        if not lines:
            return ''
        text = '\n'.join(lines) + (f'\n\n{self.downloads()}' if self.tabs else '')
        return directive('admonition', self.words['outputs'], [':class: d2l-made'], text)

    def made(self, title: str, run: Run | None) -> str:
        """Return where the outputs of a tab were made."""
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
            f'<a href="{NOTEBOOKS}/{self.page.origin}-{tab}{kind}.ipynb" download>{title}{text}</a>'
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
        return f'{self.words["discuss"]}: {" · ".join(links)}' if links else ''

    def prose_tabs(self, group: Sequence[Tab]) -> str:
        """Return prose of some tabs that stands together."""
        found: Variants = {}
        for block in group:
            text = '\n\n'.join(self.block(each) for each in block.blocks)
            names = self.book.tabs if block.tabs == (ALL,) else block.tabs
            for tab in names:
                found[tab] = f'{found[tab]}\n\n{text}' if tab in found else text
        return self.variants(found)

    def cell(self, group: Sequence[Code]) -> str:
        """Return a code cell with its outputs; what is equal in all tabs is shown once."""
        sources: Variants = {}
        outputs: Variants = {}
        for cell in group:
            for tab in self.book.tabs:
                if cell.runs_in(tab):
                    sources[tab] = code_block(cell.of_tab(tab))
                    outputs[tab] = self.outputs(self.ids[cell.line], tab)
        whole = set(sources) == set(self.book.tabs)
        if whole and len(set(sources.values())) == 1:
            same = len({self.left(self.ids[group[0].line], tab) for tab in sources}) == 1
            below = next(iter(outputs.values())) if same else self.variants(outputs)
            return f'{next(iter(sources.values()))}\n\n{below}'
        return self.variants({tab: f'{text}\n\n{outputs[tab]}' for tab, text in sources.items()})

    def outputs(self, name: str, tab: str) -> str:
        """Return the stored outputs of a cell in a tab."""
        run = self.runs.get(tab)
        if run is None or name not in run.cells:
            return ''
        found = [self.output(each, name, tab) for each in run.cells[name].outputs]
        if run.failure and run.failure.get('cell') == name:
            found.append(f'**{self.words["failed"]}**')
        return '\n\n'.join(found)

    def left(self, name: str, tab: str) -> tuple[object, ...]:
        """Return what a cell left in a tab, so that it can be compared with another tab's."""
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
        alt = f'{self.words["output"]}: {cell} ({self.book.settings.tabs[tab]})'
        return directive(
            'image', self.keep(path), [f':alt: {quoted(alt)}', ':class: d2l-picture'], ''
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


def grouped(blocks: Iterable[Block]) -> Iterator[list[Block]]:
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
    """Return a label as an address can hold it."""
    return re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')


def plain_text(markdown: str) -> str:
    """Return Markdown in one line without its marks, for the text of a picture."""
    return ' '.join(re.sub(r'[*`\[\]]', '', markdown).split())


def quoted(text: str) -> str:
    """Return a text as the value of a directive's option, whatever it begins with."""
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


def build_site(book: Book, out: Path, pins: Mapping[str, str]) -> list[Path]:
    """Build the pages and e-books of every language.

    Args:
        book: The chapters.
        out: Where ``html`` goes, with a folder per language; what is there is replaced.
        pins: Package -> version for the Colab notebooks.

    Returns:
        The entry page, then those of the languages.

    Raises:
        ChapterError: A picture is missing, or Sphinx has a warning.
    """
    html = out / 'html'
    shutil.rmtree(html, ignore_errors=True)
    languages = [name for name in book.settings.languages if book.in_language(name)]
    for language in languages:
        write_notebooks(book, language, html / language / NOTEBOOKS, pins)
        for builder, tabs in (('html', True), ('epub', False)):
            source, work = (out / kind / builder / language for kind in ('source', 'work'))
            shutil.rmtree(source, ignore_errors=True)
            write_source(book, language, source, tabs)
            run_sphinx(book, language, languages, builder, source, work, html / language)
    write_atomic(html / 'index.html', entry_page(book, languages).encode())
    return [html / 'index.html', *(html / name / f'{root_of(book)}.html' for name in languages)]


def write_source(book: Book, language: str, source: Path, tabs: bool) -> None:
    """Write what Sphinx reads: a file per chapter, the pictures, and a list of the chapters."""
    labels = book.labels(language)
    names = []
    for page in book.in_language(language):
        runs = {tab: run for tab in book.tabs if (run := load_run(book.root, page.origin, tab))}
        writer = Myst(book, page, labels, runs, tabs)
        write_atomic(source / f'{page.origin}.md', writer.document().encode())
        for name, path in writer.pictures.items():
            if not path.is_file():
                raise ChapterError(f'{page.path} shows {path}, which is not there')
            write_atomic(source / name, path.read_bytes())
        names.append(page.origin)
    entries = '\n'.join(names)
    title = book.settings.title.get(language, 'Chapters')
    index = f'# {title}\n\n```{{toctree}}\n:maxdepth: 2\n\n{entries}\n```\n'
    write_atomic(source / f'{root_of(book)}.md', index.encode())


def root_of(book: Book) -> str:
    """Return the name of the page that lists the chapters: one that no chapter has."""
    return 'contents' if any(page.origin == 'index' for page in book.pages) else 'index'


def write_notebooks(book: Book, language: str, target: Path, pins: Mapping[str, str]) -> None:
    """Write the notebooks of a language: with outputs, and for Colab."""
    for name, text in notebook_files(book, language, pins):
        write_atomic(target / name, text.encode())


def notebook_files(book: Book, language: str, pins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (file name, text) of every notebook of a language."""
    labels = book.labels(language)
    for page in book.in_language(language):
        for tab in book.tabs:
            if not page.chapter.cells(tab):
                continue
            run = load_run(book.root, page.origin, tab)
            notebook = make_notebook(page, tab, labels, run, book.root)
            yield f'{page.origin}-{tab}.ipynb', nbformat.writes(notebook)
            plain = colab(notebook, book, tab, language, pins)
            yield f'{page.origin}-{tab}-colab.ipynb', nbformat.writes(plain)


def run_sphinx(
    book: Book,
    language: str,
    languages: Sequence[str],
    builder: str,
    source: Path,
    work: Path,
    html: Path,
) -> None:
    """Run one builder of Sphinx over one language.

    Raises:
        ChapterError: It has a warning.
    """
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    settings = configuration(book, language, languages)
    lines = [f'{name} = {value!r}\n' for name, value in settings.items()]
    write_atomic(source / 'conf.py', ''.join(lines).encode())
    warnings = io.StringIO()
    target = html if builder == 'html' else work / 'epub'
    with docutils_namespace(), contextlib.redirect_stderr(io.StringIO()):
        application = Sphinx(
            source,
            source,
            target,
            work / 'doctrees',
            builder,
            status=None,
            warning=warnings,
            freshenv=True,
        )
        application.build(force_all=True)
    if serious := [line for line in warnings.getvalue().splitlines() if not HARMLESS.search(line)]:
        raise ChapterError(f'Sphinx ({language}, {builder}): {serious[0]}')
    if builder == 'epub':
        shutil.copyfile(target / EPUB, html / EPUB)


def configuration(book: Book, language: str, languages: Sequence[str]) -> dict[str, Any]:
    """Return what would stand in Sphinx's conf.py."""
    words, title = WORDS[language], book.settings.title.get(language, 'Chapters')
    others = [(name, WORDS[name]['own']) for name in languages if name != language]
    return {
        'project': title,
        'root_doc': root_of(book),
        'language': language,
        'extensions': ['myst_parser', 'sphinx_design', 'd2l_ft.chapter.mathml'],
        'myst_enable_extensions': ['colon_fence', 'dollarmath', 'html_image'],
        'myst_heading_anchors': 0,
        'suppress_warnings': ['epub.unknown_project_files', 'epub.duplicated_toc_entry'],
        'highlight_language': 'none',
        'html_theme': 'furo',
        'html_title': title,
        'html_math_renderer': 'mathml',
        'html_static_path': [str(HERE / 'static')],
        'html_css_files': ['book.css'],
        'html_js_files': ['book.js'],
        'html_copy_source': False,
        'html_show_sourcelink': False,
        'html_show_sphinx': False,
        'html_show_copyright': False,
        'html_last_updated_fmt': None,
        'html_context': {
            'd2l_words': words,
            'd2l_others': others,
            'd2l_epub': EPUB,
            'd2l_pages': [page.origin for page in book.in_language(language)],
            'root_doc': root_of(book),
        },
        'templates_path': [str(HERE / 'templates')],
        'html_sidebars': {
            '**': [
                'sidebar/brand.html',
                'sidebar/search.html',
                'sidebar/scroll-start.html',
                'sidebar/navigation.html',
                'book-links.html',
                'sidebar/scroll-end.html',
            ]
        },
        'pygments_style': 'a11y-high-contrast-light',
        'pygments_dark_style': 'a11y-high-contrast-dark',
        'epub_basename': EPUB.removesuffix('.epub'),
        'epub_title': title,
        'epub_author': 'd2l_ft',
        'epub_publisher': 'd2l_ft',
        'epub_copyright': 'MIT',
        'epub_identifier': f'd2l-ft-{language}',
        'epub_uid': 'd2l-ft',
        'epub_show_urls': 'no',
        'epub_css_files': ['book.css'],
        'epub_theme': 'epub',
        'version': '1',
        'copyright': 'MIT',
    }


def entry_page(book: Book, languages: Sequence[str]) -> str:
    """Return the page before the languages: it goes to the reader's own, or lets them choose."""
    root = root_of(book)
    links = '\n'.join(
        f'<p><a href="{name}/{root}.html" lang="{name}">{WORDS[name]["own"]}: '
        f'{book.settings.title.get(name, name)}</a></p>'
        for name in languages
    )
    names = ', '.join(f"'{name}'" for name in languages)
    return f"""<!doctype html>
<html lang="{languages[0]}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{book.settings.title.get(languages[0], 'Chapters')}</title>
<style>body {{ font: 1.2rem system-ui, sans-serif; margin: 20vh auto; max-width: 32rem; }}</style>
<main>
{links}
</main>
<script>
const own = navigator.languages.map((name) => name.slice(0, 2));
const known = [{names}];
const first = own.find((name) => known.includes(name));
if (first) location.replace(first + '/{root}.html' + location.search);
</script>
</html>
"""
