"""Pages, e-books and notebooks of a small book."""

import json
import re
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_chapter import CHAPTER, SETTINGS, store

from d2l_ft.chapter.book import Book
from d2l_ft.chapter.site import build_site
from d2l_ft.cli.main import main
from d2l_ft.errors import ChapterError, StorageError
from d2l_ft.storage.locks import hold_lock

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Return the folder of a built site."""
    root = tmp_path_factory.mktemp('book')
    write_book(root)
    build_site(Book(root), root / 'out', {'torch': '2.1'})
    return root / 'out/html'


def write_book(root):
    """Write a chapter with its translation and outputs."""
    (root / 'img').mkdir()
    (root / 'img/a.svg').write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (root / 'book.json').write_text(json.dumps(SETTINGS))
    (root / 'fine.md').write_text(CHAPTER)
    (root / 'fine_tr.md').write_text(CHAPTER.replace('Some words', 'Birkaç söz'))
    store(root, {tab: {'after': 'equal in both'} for tab in ('mxnet', 'pytorch')})


class Reader(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_tabs_have_names_and_equal_things_are_shown_once(built):
    text = (built / 'en/fine.html').read_text()
    labels = [a for tag, a in Reader(text).tags if tag == 'label' and 'data-sync-id' in a]
    pairs = [(a['data-sync-group'], a['data-sync-id']) for a in labels]
    # the cell start, the prose of tabs, the outputs of look, train and use
    assert pairs == [('tab', 'mxnet'), ('tab', 'pytorch')] * 5
    assert text.count('equal in both') == 1
    assert text.count('look mxnet 0.75') == text.count('look pytorch 0.75') == 1
    assert text.count("'rate'</span>") == 1


def test_words_and_numbers_are_in_the_language_of_the_page(built):
    english, turkish = ((built / f'{name}/fine.html').read_text() for name in ('en', 'tr'))
    for text in (english, turkish):
        assert '7.1.1 Numbers' in text
        assert '<math xmlns="http://www.w3.org/1998/Math/MathML"' in text
        assert '<span class="eqno">(7.1.1)</span>' in text
        assert '[**' not in text
    assert re.search(r'href="#sec-numbers"[^>]*>(<span[^>]*>)?Section 7\.1\.1<', english)
    assert re.search(r'href="#sec-numbers"[^>]*>(<span[^>]*>)?Bölüm 7\.1\.1<', turkish)
    assert 'lang="tr"' in turkish
    assert 'href="../tr/fine.html"' in english
    assert 'href="../en/fine.html"' in turkish


def test_nothing_is_loaded_from_elsewhere(built):
    for path in built.rglob('*.html'):
        for tag, attributes in Reader(path.read_text()).tags:
            if tag in ('script', 'img', 'link', 'iframe', 'source'):
                address = attributes.get('src') or attributes.get('href') or ''
                assert not re.match(r'(https?:)?//', address), (path, address)
    for path in built.rglob('*.css'):
        assert not re.search(r'url\(["\']?(https?:)?//|@import', path.read_text())


def test_notebooks_and_book_can_be_downloaded(built):
    text = (built / 'en/fine.html').read_text()
    links = [a['href'] for tag, a in Reader(text).tags if tag == 'a' and 'download' in a]
    assert 'book.epub' in links
    assert len([link for link in links if link.endswith('.ipynb')]) == 4
    for link in links:
        assert (built / 'en' / link).is_file()
    assert (built / 'index.html').is_file()
    assert 'Birkaç söz' in (built / 'tr/fine.html').read_text()
    assert r'birka\u00e7' in (built / 'tr/searchindex.js').read_text()


def test_the_e_book_shows_every_variant(built):
    with zipfile.ZipFile(built / 'en/book.epub') as book:
        assert book.read('mimetype') == b'application/epub+zip'
        assert book.testzip() is None
        text = book.read('fine.xhtml').decode()
    assert 'sd-tab' not in text
    assert '<strong>MXNet</strong>' in text
    assert 'for MXNet' in text
    assert 'for PyTorch' in text


def test_the_commands(tmp_path, monkeypatch):
    write_book(tmp_path)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def call(*arguments):
        done = runner.invoke(main, ['chapter', *arguments])
        return done.exit_code, done.output

    code, text = call('build', '.', '--no-run', '--out', 'out')
    assert (code, text) == (
        0,
        'note: fine.md:21: the citation K is shown as its key\n'
        'note: fine_tr.md:21: the citation K is shown as its key\n'
        'pages: out/html/index.html\n',
    )
    assert call('status', '.')[0] == 0
    assert call('check', '.')[1].endswith('no problem in 2 chapter(s)\n')
    assert call('lib', '.', '--out', 'lib')[1] == 'lib/saved.py\n'
    assert 'def train(net):  # a function of the chapter' in (tmp_path / 'lib/saved.py').read_text()
    assert call('lib', '.', '--out', 'lib', '--check') == (0, '')
    (tmp_path / 'fine.md').write_text(CHAPTER.replace('d2l.train_ch13', 'd2l.train_fine_tuning'))
    assert call('lib', '.', '--out', 'lib', '--check')[0] == 1
    code, text = call('status', 'fine.md')
    assert code == 1
    assert 'fine pytorch  train  stale: its code changed' in text
    assert text.endswith('4 fresh, 6 stale\n')
    assert call('notebooks', '.', '--out', 'books')[0] == 0
    assert len(list((tmp_path / 'books').rglob('*.ipynb'))) == 8
    code, text = call('status', 'nowhere')
    assert code == 2
    assert 'there is no nowhere' in text
    (tmp_path / 'fine.md').write_text('```eval_rst\n```\n')
    code, text = call('check', 'fine.md')
    assert (code, text) == (2, 'd2l-ft: fine.md:1: eval_rst is not supported: write Markdown\n')


def test_without_the_packages_of_the_book_the_command_says_what_to_install(tmp_path, monkeypatch):
    write_book(tmp_path)
    monkeypatch.setitem(sys.modules, 'furo', None)
    done = CliRunner().invoke(main, ['chapter', 'build', str(tmp_path), '--no-run'])
    assert done.exit_code == 2
    assert done.output == 'd2l-ft: not installed: furo: run  pip install "d2l-ft[book]"\n'
    assert CliRunner().invoke(main, ['chapter', 'status', str(tmp_path)]).exit_code == 0


def test_pages_stay_when_new_ones_cannot_be_made(tmp_path):
    write_book(tmp_path)
    build_site(Book(tmp_path), tmp_path / 'out', {})
    before = (tmp_path / 'out/html/en/fine.html').read_text()
    (tmp_path / 'img/a.svg').unlink()
    with pytest.raises(ChapterError, match=r'a\.svg, which is not there'):
        build_site(Book(tmp_path), tmp_path / 'out', {})
    assert (tmp_path / 'out/html/en/fine.html').read_text() == before
    assert names_in(tmp_path / 'out') == ['.html.lock', 'html']


def names_in(folder):
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    'path', ['html/notes.txt', 'html/en/my.html', 'html/.hidden', 'html/deep/er/x', 'html', 'link']
)
@pytest.mark.parametrize('built', [False, True])
def test_a_build_takes_nothing_away_that_is_not_its_own(tmp_path, path, built):
    """Neither at once nor among pages of before; a folder, a file or a link in their place."""
    write_book(tmp_path)
    out, book = tmp_path / 'out', Book(tmp_path)
    kept = [out / name for name in ('work/pages/a', 'source/html/en/a', 'work/a', 'a')]
    for each in kept:
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text('mine')
    if built:
        build_site(book, out, {})
    place = out / 'html'
    if path == 'link':
        (tmp_path / 'elsewhere').mkdir()
        (tmp_path / 'elsewhere/a').write_text('mine')
        if built:
            place.rename(tmp_path / 'before')
        place.symlink_to(tmp_path / 'elsewhere')
        kept.append(tmp_path / 'elsewhere/a')
    else:
        if path == 'html' and built:
            place.rename(tmp_path / 'before')
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text('mine')
        kept.append(out / path)
    with pytest.raises(ChapterError, match='was not made by') as caught:
        build_site(book, out, {})
    assert '\n' not in str(caught.value)
    assert all(each.read_text() == 'mine' for each in kept)
    done = CliRunner().invoke(
        main, ['chapter', 'build', str(tmp_path), '--no-run', '--out', str(out)]
    )
    assert done.exit_code == 2
    assert all(each.read_text() == 'mine' for each in kept)


def test_pages_are_replaced_again_and_again_and_old_ones_go(tmp_path):
    write_book(tmp_path)
    for count in range(3):
        (tmp_path / 'fine.md').write_text(CHAPTER.replace('Some words', f'Words {count}'))
        build_site(Book(tmp_path), tmp_path / 'out', {})
        assert f'Words {count}' in (tmp_path / 'out/html/en/fine.html').read_text()
    (tmp_path / 'book.json').write_text(json.dumps(SETTINGS | {'languages': {'en': ''}}))
    build_site(Book(tmp_path), tmp_path / 'out', {})
    assert not (tmp_path / 'out/html/tr').exists()
    assert names_in(tmp_path / 'out') == ['.html.lock', 'html']


def test_two_builds_into_one_folder_do_not_meet(tmp_path):
    write_book(tmp_path)
    with hold_lock(tmp_path / 'out/html'), pytest.raises(StorageError, match='another process'):
        build_site(Book(tmp_path), tmp_path / 'out', {})
    build_site(Book(tmp_path), tmp_path / 'out', {})


@pytest.mark.parametrize('fails', [1, 2])
def test_pages_stay_when_the_disk_fails_or_a_build_is_killed(tmp_path, monkeypatch, fails):
    """At either of the two renames that put the new pages in the place of the old ones."""
    write_book(tmp_path)
    out = tmp_path / 'out'
    build_site(Book(tmp_path), out, {})
    before = (out / 'html/en/fine.html').read_text()
    (tmp_path / 'fine.md').write_text(CHAPTER.replace('Some words', 'New words'))
    real, count = Path.rename, []

    def failing(self, target):
        count.append(self)
        if len(count) == fails:
            raise OSError(28, 'No space left on device')
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'rename', failing)
        with pytest.raises(StorageError, match='no space left'):
            build_site(Book(tmp_path), out, {})
    assert (out / 'html/en/fine.html').read_text() == before
    assert names_in(out) == ['.html.lock', 'html']
    (out / '.d2l-ft-chapters.x').mkdir()  # as a build that was killed between the two leaves it
    (out / 'html').rename(out / '.d2l-ft-chapters.x/old')
    (tmp_path / 'img/a.svg').unlink()
    with pytest.raises(ChapterError):
        build_site(Book(tmp_path), out, {})
    assert (out / 'html/en/fine.html').read_text() == before
    assert names_in(out) == ['.html.lock', 'html']


def test_saved_code_replaces_no_file_of_the_user(tmp_path):
    write_book(tmp_path)
    (tmp_path / 'saved.py').write_text('mine = 1')
    done = CliRunner().invoke(main, ['chapter', 'lib', str(tmp_path), '--out', str(tmp_path)])
    assert done.exit_code == 2
    assert 'was not made by' in done.output
    assert (tmp_path / 'saved.py').read_text() == 'mine = 1'
