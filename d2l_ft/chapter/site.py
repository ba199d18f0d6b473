"""Make pages and e-books of the chapters with Sphinx.

Every language is a Sphinx project of its own, so that search, words and references are in one
language. Tabs are sphinx-design's: one click switches all of a page, the browser remembers it,
and ``?tab=pytorch`` in an address chooses. Formulas are MathML, so nothing is loaded from
other sites. An e-book shows the variants of a tab below each other.
"""

import base64
import contextlib
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import nbformat

from d2l_ft.chapter.book import Book
from d2l_ft.chapter.myst import NOTEBOOKS, Myst
from d2l_ft.chapter.notebooks import colab, make_notebook
from d2l_ft.chapter.outputs import load_run
from d2l_ft.chapter.safe import make_harmless
from d2l_ft.chapter.words import WORDS
from d2l_ft.errors import ChapterError, StorageError
from d2l_ft.storage.atomic import describe, write_atomic
from d2l_ft.storage.locks import hold_lock

HERE = Path(__file__).parent
EPUB = 'book.epub'
HTML, OLD, BESIDE = 'html', 'old', '.d2l-ft-chapters.'
"""Folder of the pages; of the old ones while they are replaced; where new ones are built."""

MADE = '.made-by-d2l-ft'
"""List of the files that a build has made, in the folder of the pages."""

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' {scripts}; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'"
)
"""The content security policy of every page. 'unsafe-eval' is for Sphinx's own
script, which evaluates a language's rule for plurals; no script of a chapter may run."""

INLINE = re.compile(r'<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>', re.DOTALL)
HARMLESS = re.compile(r'Language "\w+" not supported: Docutils-generated text|^\s*$')
"""Docutils lacks translations for some languages; pages show none of its words."""

COLOUR = re.compile(r'\x1b\[[\d;]*m')
"""What Sphinx puts around its warnings, whether they go to a terminal or not."""


def build_site(book: Book, out: Path, pins: Mapping[str, str]) -> list[Path]:
    """Build the pages and e-books of every language, and replace the old ones.

    Args:
        book: The chapters.
        out: Where ``html`` goes, with a folder per language. The old pages stay until the new ones
            are complete; nothing else in the folder is touched.
        pins: Package -> version for the Colab notebooks.

    Returns:
        The entry page, then those of the languages.

    Raises:
        ChapterError: A picture is missing, Sphinx has a warning, or ``html`` has files that no
            build made.
        StorageError: The folder cannot be written, or another process is building there.
    """
    place = out / HTML
    languages = [name for name in book.settings.languages if book.in_language(name)]
    with hold_lock(place):
        recover(out)
        check_made_here(place)
        try:
            beside = Path(tempfile.mkdtemp(dir=out, prefix=BESIDE))
            try:
                write_pages(book, beside, languages, pins)
                exchange(beside, place)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        except OSError as error:
            raise StorageError(describe(error, place)) from error
    return [place / 'index.html', *(place / name / f'{root_name(book)}.html' for name in languages)]


def check_made_here(place: Path) -> None:
    """Check that a folder of pages has only files that a build made; it need not exist.

    Raises:
        ChapterError: It has others.
    """
    made = place / MADE
    known = set(made.read_text(encoding='utf-8').split('\n')) if made.is_file() else set()
    strange = [path for path in list_files(place) if relative_name(place, path) not in known]
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        strange = [place]
    if strange:
        raise ChapterError(
            f'{strange[0]} was not made by  d2l-ft chapter build, and would be lost: move '
            'it elsewhere, or name another folder with `out`'
        )


def list_files(folder: Path) -> list[Path]:
    """Return all files and links in a folder, at any depth; links are not followed."""
    return [Path(top, name) for top, _, names in os.walk(folder) for name in names] + [
        path
        for top, names, _ in os.walk(folder)
        for name in names
        if (path := Path(top, name)).is_symlink()
    ]


def relative_name(folder: Path, path: Path) -> str:
    """Return a file's path in a folder, as the list of files has it."""
    return path.relative_to(folder).as_posix()


def write_pages(
    book: Book, beside: Path, languages: Sequence[str], pins: Mapping[str, str]
) -> None:
    """Write the pages of every language into ``html`` of a folder, and the list of its files."""
    html = beside / HTML
    for language in languages:
        write_notebooks(book, language, html / language / NOTEBOOKS, pins)
        for builder, tabs in (('html', True), ('epub', False)):
            source, work = (beside / kind / builder / language for kind in ('source', 'work'))
            write_source(book, language, source, tabs)
            run_sphinx(book, language, languages, builder, source, work, html / language)
    write_atomic(html / 'index.html', entry_page(book, languages).encode())
    protect(html, '' if book.settings.trusted else theme_scripts(html, languages))
    names = sorted([MADE, *(relative_name(html, path) for path in list_files(html))])
    write_atomic(html / MADE, '\n'.join(names).encode())


def exchange(beside: Path, place: Path) -> None:
    """Replace the old pages by the new ones; the old ones stay if that fails."""
    old = beside / OLD
    if place.exists():
        place.rename(old)
    try:
        (beside / HTML).rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise


def recover(out: Path) -> None:
    """Remove the leftovers of builds that were killed, and restore pages that one had moved."""
    for beside in out.glob(f'{BESIDE}*'):
        if (beside / OLD).is_dir() and not (out / HTML).exists():
            (beside / OLD).rename(out / HTML)
        shutil.rmtree(beside, ignore_errors=True)


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
    title = title if book.settings.trusted else make_harmless(title)
    index = f'# {title}\n\n```{{toctree}}\n:maxdepth: 2\n\n{entries}\n```\n'
    write_atomic(source / f'{root_name(book)}.md', index.encode())


def root_name(book: Book) -> str:
    """Return the name of the page that lists the chapters, which no chapter has."""
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
            notebook = make_notebook(book, page, tab, labels, run)
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
    from sphinx.errors import ExtensionError
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
        try:
            application.build(force_all=True)
        except ExtensionError as error:  # raised by an extension of this package
            raise error.orig_exc or error from None
    messages = COLOUR.sub('', warnings.getvalue()).splitlines()
    if serious := [line for line in messages if not HARMLESS.search(line)]:
        cause = serious[0].replace(f'{source}{os.sep}', '')
        raise ChapterError(f'Sphinx ({language}, {builder}): {cause}')
    if builder == 'epub':
        shutil.copyfile(target / EPUB, html / EPUB)


def configuration(book: Book, language: str, languages: Sequence[str]) -> dict[str, Any]:
    """Return the settings of Sphinx's conf.py."""
    words, plain = WORDS[language], book.settings.title.get(language, 'Chapters')
    title = escape(plain)
    others = [(name, WORDS[name]['own']) for name in languages if name != language]
    return {
        'project': title,
        'root_doc': root_name(book),
        'language': language,
        'extensions': [
            'myst_parser',
            'sphinx_design',
            'd2l_ft.chapter.mathml',
            'd2l_ft.chapter.safe',
        ],
        'd2l_trusted': book.settings.trusted,
        'myst_enable_extensions': ['colon_fence', 'dollarmath', 'html_image'],
        'myst_heading_anchors': 0,
        'suppress_warnings': ['epub.unknown_project_files', 'epub.duplicated_toc_entry'],
        'highlight_language': 'none',
        # pages
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
            'root_doc': root_name(book),
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
        # colours of code
        'pygments_style': 'a11y-high-contrast-light',
        'pygments_dark_style': 'a11y-high-contrast-dark',
        # e-book
        'epub_basename': EPUB.removesuffix('.epub'),
        'epub_title': plain,
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


def theme_scripts(html: Path, languages: Sequence[str]) -> str:
    """Return the hashes of the inline scripts of pages that show nothing of a chapter.

    These are the entry page and the search pages.
    """
    pages = [html / 'index.html', *(html / language / 'search.html' for language in languages)]
    scripts = {script for page in pages for script in INLINE.findall(page.read_text('utf-8'))}
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()) for each in scripts)
    return ' '.join(sorted(f"'sha256-{each.decode()}'" for each in digests))


def protect(html: Path, scripts: str) -> None:
    """Let the pages load nothing from other sites, and run only the theme's scripts.

    Args:
        html: The folder of the pages.
        scripts: The hashes of the scripts inside of pages; '' allows all.
    """
    policy = POLICY.format(scripts=scripts or "'unsafe-inline'")
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    for page in html.rglob('*.html'):
        text = page.read_text(encoding='utf-8')
        head = text.index('<meta charset="utf-8">')
        write_atomic(page, f'{text[:head]}{meta}\n{text[head:]}'.encode())


def entry_page(book: Book, languages: Sequence[str]) -> str:
    """Return the entry page: it opens the reader's own language, or lets them choose."""
    root = root_name(book)
    links = '\n'.join(
        f'<p><a href="{name}/{root}.html" lang="{name}">{WORDS[name]["own"]}: '
        f'{escape(book.settings.title.get(name, name))}</a></p>'
        for name in languages
    )
    names = ', '.join(f"'{name}'" for name in languages)
    return f"""<!doctype html>
<html lang="{languages[0]}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(book.settings.title.get(languages[0], 'Chapters'))}</title>
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
