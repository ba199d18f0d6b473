"""What ``d2l-ft chapter`` does."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from d2l_ft.backend.registry import is_installed
from d2l_ft.chapter.book import Book
from d2l_ft.chapter.check import notes, problems
from d2l_ft.chapter.claims import accept
from d2l_ft.chapter.freshness import CellState, cell_states
from d2l_ft.chapter.outputs import load_run
from d2l_ft.chapter.saved import library_files, write_library
from d2l_ft.chapter.translation import note_read, stale_paragraphs, unread_translations
from d2l_ft.errors import ChapterError
from d2l_ft.storage.atomic import write_atomic

Say = Callable[[str], object]
LOCK = 'requirements-today.lock'
BOOK_PACKAGES = (
    'nbformat',
    'nbclient',
    'ipykernel',
    'sphinx',
    'myst_parser',
    'sphinx_design',
    'furo',
    'latex2mathml',
)
"""Import names of the packages of the extra 'book', which run cells and make pages."""


def open_book(files: Sequence[Path]) -> Book:
    """Return the book of a folder, or of some of its chapters.

    Args:
        files: One folder, or Markdown files of one folder; none is ``chapters``.

    Raises:
        ChapterError: There is no such folder or file, or a chapter is not supported.
    """
    paths = list(files) or [Path('chapters')]
    if missing := [path for path in paths if not path.exists()]:
        raise ChapterError(
            f'there is no {missing[0]}: give a folder of chapters, or Markdown files'
        )
    if len(paths) == 1 and paths[0].is_dir():
        return Book(paths[0])
    if folders := [path for path in paths if path.is_dir()]:
        raise ChapterError(f'give {folders[0]} alone, or files')
    if len({path.parent for path in paths}) > 1:
        raise ChapterError('the chapters lie in different folders: give those of one at a time')
    return Book(paths[0].parent, paths)


def select_tabs(book: Book, tab: str) -> list[str]:
    """Return the tabs of an option: one, or 'all'.

    Raises:
        ChapterError: There is no such tab.
    """
    if tab == 'all':
        return book.tabs
    if tab not in book.tabs:
        raise ChapterError(f'no tab is named {tab!r}: choose of {", ".join(book.tabs)}, all')
    return [tab]


def check_book_packages() -> None:
    """Check that the packages that run cells and make pages are installed.

    Raises:
        ChapterError: One is not.
    """
    missing = [name for name in BOOK_PACKAGES if not is_installed(name)]
    if missing:
        names = ', '.join(missing)
        raise ChapterError(f'not installed: {names}: run  pip install "d2l-ft[book]"')


def build(
    files: Sequence[Path],
    tab: str,
    data: str | None,
    run: bool,
    overwrite: bool,
    out: Path,
    say: Say,
) -> int:
    """Run what is stale, then make the pages; return 1 if a tab failed, otherwise 0.

    Raises:
        D2LFTError: A chapter is not supported, or the pages can't be made.
    """
    check_book_packages()
    from d2l_ft.chapter.notebooks import read_pins
    from d2l_ft.chapter.site import HTML, build_site, check_made_here

    book = open_book(files)
    check_made_here(out / HTML)  # before the cells are run for minutes
    failed = run and not execute(book, select_tabs(book, tab), data, overwrite, say)
    for line in notes(book):
        say(f'note: {line}')
    pages = build_site(book, out, read_pins(book.root.resolve().parent / LOCK))
    say(f'pages: {pages[0]}')
    return int(failed)


def execute(book: Book, tabs: Sequence[str], data: str | None, overwrite: bool, say: Say) -> bool:
    """Run the stale tabs, also after one has failed; return whether all succeeded."""
    from d2l_ft.chapter.execute import refresh

    good = True
    for page in book.origins():
        for tab in tabs:
            if not page.chapter.cells(tab):
                continue
            outcome = refresh(book, page, tab, data, overwrite)
            good = good and outcome.what != 'failed'
            say(f'{outcome.page} {outcome.tab}: {outcome.what}: {outcome.text}')
            for line in outcome.trace:
                say(f'  {line}')
    return good


def states(book: Book) -> list[CellState]:
    """Return the state of every cell of every tab."""
    return [
        state
        for page in book.origins()
        for tab in book.tabs
        for state in cell_states(page, tab, load_run(book.root, page.origin, tab))
    ]


def status(files: Sequence[Path], say: Say) -> int:
    """Print the state of every cell, and why; run nothing. Return 0 if all are fresh, otherwise 1.

    It also reports paragraphs of an original that changed since its translation was read.

    Raises:
        D2LFTError: A chapter is not supported.
    """
    book = open_book(files)
    found = states(book)
    width = max((len(each.cell) for each in found), default=0)
    for each in found:
        why = f': {each.why}' if each.why else ''
        say(f'{each.page} {each.tab:8} {each.cell:{width}}  {each.state}{why}')
    changed = [line for page in book.pages for line in stale_paragraphs(book, page)]
    for line in changed:
        say(line)
    counts = Counter(each.state for each in found)
    say(', '.join(f'{count} {state}' for state, count in counts.items()))
    return int(counts['fresh'] != len(found) or bool(changed))


def check(files: Sequence[Path], accepted: bool, translated: bool, say: Say) -> int:
    """Print the problems of chapters; return 0 if there are none, otherwise 1.

    Args:
        files: As ``open_book`` takes them.
        accepted: Whether the texts were read with the current values.
        translated: Whether the translations were read against the current originals.
        say: Prints a line.

    Raises:
        D2LFTError: A chapter is not supported, or the stored outputs are damaged.
    """
    book = open_book(files)
    if accepted:
        count = sum(accept(book, page) for page in book.origins())
        say(f'noted the values of {count} claims')
    if translated:
        say(f'noted that {note_read(book)} translation(s) were read')
    for line in (*notes(book), *unread_translations(book)):
        say(f'note: {line}')
    found = list(problems(book))
    for line in found:
        say(line)
    what = f'{len(found)} problem(s)' if found else 'no problem'
    say(f'{what} in {len(book.pages)} chapter(s)')
    return int(bool(found))


def notebooks(files: Sequence[Path], out: Path, say: Say) -> int:
    """Write the notebooks of every chapter, language and tab.

    Raises:
        D2LFTError: A chapter is not supported.
    """
    check_book_packages()
    from d2l_ft.chapter.notebooks import read_pins
    from d2l_ft.chapter.site import notebook_files

    book = open_book(files)
    pins = read_pins(book.root.resolve().parent / LOCK)
    for language in book.settings.languages:
        for name, text in notebook_files(book, language, pins):
            write_atomic(out / language / name, text.encode())
            say(str(out / language / name))
    return 0


def library(files: Sequence[Path], out: Path, verify: bool, say: Say) -> int:
    """Write the ``#@save`` code, or report whether the files are up to date.

    Raises:
        D2LFTError: A chapter is not supported, or a cell can't be saved from.
    """
    book = open_book(files)
    if not verify:
        for path in write_library(book, out):
            say(str(path))
        return 0
    stale = [
        name
        for name, text in library_files(book).items()
        if not (out / name).is_file() or (out / name).read_text(encoding='utf-8') != text
    ]
    for name in stale:
        say(f'{out / name} is stale: run  d2l-ft chapter lib --out {out}')
    return int(bool(stale))
