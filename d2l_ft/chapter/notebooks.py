"""Make notebooks of a chapter, one for each tab."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from d2l_ft import __version__
from d2l_ft.backend.registry import BACKENDS
from d2l_ft.chapter.book import Book, Page, Target, cell_ids
from d2l_ft.chapter.outputs import Output, Run, folder, to_notebook
from d2l_ft.chapter.reader import Block, Code, Tab
from d2l_ft.chapter.render import Plain
from d2l_ft.chapter.words import WORDS

PINNED = {name: each.packages for name, each in BACKENDS.items()}
"""Tab -> the packages whose versions a Colab notebook pins."""


def make_notebook(
    book: Book, page: Page, tab: str, labels: Mapping[str, Target], run: Run | None = None
) -> Any:
    """Return the notebook of a tab.

    Args:
        book: The chapters.
        page: One of them.
        tab: Its tab.
        labels: Label -> target, for the references.
        run: Outputs to put in.

    Returns:
        A notebook of nbformat 4.5. The ids of its code cells are the same in every tab.
    """
    plain, ids, cells = Plain(page, labels, book), cell_ids(page.chapter), []
    prose: list[str] = []
    for block in visible(page, tab):
        if not isinstance(block, Code):
            prose.append(plain.block(block))
            continue
        if prose:
            cells.append(markdown_cell(plain, prose, block.line))
        prose = []
        name = ids[block.line]
        cell = new_code_cell(block.of_tab(tab), id=cell_id(name))
        if run and name in run.cells:
            place = folder(book.root, page.origin, tab)
            shown_outputs = [
                each if plain.may_show(place / each.file) else picture_text(each, plain.words)
                for each in run.cells[name].outputs
            ]
            outputs = to_notebook(shown_outputs, place)
            cell.outputs = [nbformat.from_dict(each) for each in outputs]
        cells.append(cell)
    if prose:
        cells.append(markdown_cell(plain, prose, 0))
    kernel = {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}
    metadata = {'kernelspec': kernel, 'language_info': {'name': 'python'}, 'd2l_ft': {'tab': tab}}
    notebook = new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    return notebook


def picture_text(output: Output, words: Mapping[str, str]) -> Output:
    """Return the text that replaces an output whose picture is not shown."""
    return Output('text', f'{words["active"]}\n{output.text}')


def visible(page: Page, tab: str) -> list[Block]:
    """Return the blocks that a tab shows, in order."""
    found: list[Block] = []
    for block in page.chapter.blocks:
        if isinstance(block, Tab):
            if tab in block.tabs or block.tabs == ('all',):
                found += block.blocks
        elif not isinstance(block, Code) or block.runs_in(tab):
            found.append(block)
    return found


def markdown_cell(plain: Plain, prose: list[str], line: int) -> Any:
    """Return a cell of prose; its id comes from the line of the code cell that follows."""
    text = plain.safe('\n\n'.join(each for each in prose if each.strip()))
    return new_markdown_cell(text, id=f'text-{line or "end"}')


def cell_id(name: str) -> str:
    """Return a name as an id of nbformat: letters, digits, - and _, at most 64."""
    return re.sub(r'[^A-Za-z0-9_-]', '-', name)[:64]


def colab(notebook: Any, book: Book, tab: str, language: str, pins: Mapping[str, str]) -> Any:
    """Return a copy of a notebook that begins by installing what it needs.

    Args:
        notebook: Of ``make_notebook``.
        book: For the pip line of its settings.
        tab: The notebook's tab.
        language: Of the comment.
        pins: Package -> version.
    """
    words = WORDS[language]
    names = PINNED.get(tab, ())
    versions = ' '.join(f'"{each}=={pins[each]}"' if each in pins else each for each in names)
    # --no-deps, as MXNet's metadata asks for an old NumPy
    extra, apart = ('mxnet-needs', '\n%pip install -q --no-deps') if tab == 'mxnet' else (tab, '')
    package = book.settings.install.format(tab=extra, version=__version__)
    lines = [f'# {words["pip"]}', f'%pip install -q "{package}"{apart} {versions}'.rstrip()]
    copy = nbformat.from_dict(notebook)
    copy.cells = [new_code_cell('\n'.join(lines), id='install'), *notebook.cells]
    for cell in copy.cells:
        if cell.cell_type == 'code':
            cell.outputs, cell.execution_count = [], None
    return copy


def read_pins(lock: Path) -> dict[str, str]:
    """Return package -> version of a lock file; nothing where there is none.

    If a package has lines for several Pythons, the last one counts, which is for the newest.
    """
    lines = lock.read_text().splitlines() if lock.is_file() else []
    pairs = (line.partition(';')[0].rstrip(' \\').partition('==') for line in lines)
    return {name.strip(): version for name, equal, version in pairs if equal}
