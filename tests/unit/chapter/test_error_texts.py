"""What the errors of chapters and their pages say."""

import json

import pytest
from conftest import says

from d2l_ft.chapter.book import Book
from d2l_ft.chapter.command import open_book, select_tabs
from d2l_ft.chapter.outputs import load_run
from d2l_ft.chapter.saved import library_files, write_library
from d2l_ft.chapter.site import build_site
from d2l_ft.chapter.translation import read_paragraphs
from d2l_ft.errors import ChapterError, StorageError


@pytest.fixture
def root(tmp_path):
    """Return the folder of a book of one chapter."""
    folder = tmp_path / 'book'
    folder.mkdir()
    (folder / 'fine.md').write_text('# Fine\n:label:`sec_fine`\n\nWords.\n')
    return folder


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'default_tab': 'jax'}, "default_tab is 'jax', which is no tab"),
        ({'chapters': {'a/b': '1'}}, "'a/b' is no name of a tab, a chapter or the end of one: "),
        ({'languages': {'en': '', 'xx': '_xx'}}, "no words of the language 'xx' are known"),
        ({'languages': {'en': '_en'}}, 'one language must have no suffix: the origin'),
    ],
)
def test_settings_that_no_book_can_have(root, settings, text):
    (root / 'book.json').write_text(json.dumps(settings))
    assert f'{root / "book.json"}: {text}' in says(ChapterError, Book, root)


def test_settings_that_cannot_be_read(root):
    (root / 'book.json').write_text('{')
    text = says(ChapterError, Book, root)
    assert text.startswith(f'cannot read the settings {root / "book.json"}: ')


def test_a_folder_without_a_chapter(tmp_path):
    assert says(ChapterError, Book, tmp_path) == (
        f'{tmp_path} has no chapter: name some in {tmp_path / "book.json"}'
    )


def test_a_chapter_whose_name_no_page_can_have(root):
    (root / 'fine.md').rename(root / '+.md')
    assert says(ChapterError, Book, root) == (
        f'{root / "+.md"} is no name of a chapter: use letters, digits, _ and -'
    )


def test_a_chapter_that_is_no_text(root):
    (root / 'fine.md').write_bytes(b'\xff')
    assert says(ChapterError, Book, root).startswith(f'cannot read the chapter {root / "fine.md"}')


def test_a_chapter_with_what_is_not_supported(root):
    (root / 'fine.md').write_text('# Fine\n\n:end_tab:\n')
    assert says(ChapterError, Book, root) == f'{root / "fine.md"}:3: end_tab without begin_tab'


def test_chapters_that_do_not_belong_together(root, tmp_path):
    (tmp_path / 'other.md').write_text('# Other\n')
    assert says(ChapterError, open_book, [root / 'none.md']) == (
        f'there is no {root / "none.md"}: give a folder of chapters, or Markdown files'
    )
    assert says(ChapterError, open_book, [root, root / 'fine.md']) == (
        f'give {root} alone, or files'
    )
    assert says(ChapterError, open_book, [tmp_path / 'other.md', root / 'fine.md']) == (
        'the chapters lie in different folders: give those of one at a time'
    )


def test_a_tab_that_is_unknown(root):
    assert says(ChapterError, select_tabs, Book(root), 'jax') == (
        "no tab is named 'jax': choose of mxnet, pytorch, all"
    )


def test_a_label_that_is_used_twice(root):
    (root / 'more.md').write_text('# More\n:label:`sec_fine`\n')
    assert says(ChapterError, Book(root).labels, 'en') == (
        f'{root / "more.md"}:1: the label sec_fine is used twice'
    )


def test_a_cell_with_a_mark_that_is_no_python(root):
    (root / 'fine.md').write_text('# Fine\n\n```{.python .input}\n#@tab all\n#@save\ndef (\n```\n')
    assert says(ChapterError, library_files, Book(root)) == (
        f'{root / "fine.md"}:3: cannot save from the cell: invalid syntax'
    )


def test_a_file_that_is_not_of_the_chapters(root, tmp_path):
    (root / 'fine.md').write_text('# Fine\n\n```{.python .input}\n#@tab all\n#@save\nx = 1\n```\n')
    (tmp_path / 'saved.py').write_text('mine = 1\n')
    assert says(ChapterError, write_library, Book(root), tmp_path) == (
        f'{tmp_path / "saved.py"} was not made by  d2l-ft chapter lib: move it elsewhere, or name '
        'another folder with `out`'
    )


def test_a_note_on_a_translation_that_is_damaged(root):
    (root / 'a.json').write_text('{')
    text = says(ChapterError, read_paragraphs, root / 'a.json')
    assert text.startswith(f'cannot read {root / "a.json"} (')
    assert text.endswith('then run  d2l-ft chapter check --translated')


def test_files_of_a_book_that_may_not_be_read(closed):
    folder, as_another = closed
    path = folder / 'outputs/fine/mxnet/run.json'
    path.parent.mkdir(parents=True)
    for each in (path, folder / 'a.json'):
        each.write_text('{}')
        each.chmod(0)
    with as_another():
        texts = [
            says(ChapterError, load_run, folder, 'fine', 'mxnet'),
            says(ChapterError, read_paragraphs, folder / 'a.json'),
        ]
    assert texts == [
        f'cannot read the outputs {path}: Permission denied',
        f'cannot read {folder / "a.json"}: Permission denied',
    ]


def test_pages_that_cannot_be_made(root, tmp_path):
    (root / 'fine.md').write_text('# Fine\n\n[a link](none.md)\n')
    text = says(ChapterError, build_site, Book(root), tmp_path / 'out', {})
    assert text.startswith('Sphinx (en, html): fine.md:3: WARNING: ')
    assert '\x1b' not in text


def test_pages_that_cannot_be_written(root, blocked):
    assert says(StorageError, build_site, Book(root), blocked, {}) == (
        f'cannot write {blocked / "html"}: {blocked.parent} is not a folder'
    )


def test_pages_for_which_there_is_no_room(root, closed):
    folder, as_another = closed
    book = Book(root)
    build_site(book, folder, {})
    (folder / '.html.lock').chmod(0o666)
    with as_another():
        text = says(StorageError, build_site, book, folder, {})
    assert text == f'cannot write {folder / "html"}: Permission denied'
