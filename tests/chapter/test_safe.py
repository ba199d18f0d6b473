"""A chapter that nobody vouches for: it reads no file but its own, and runs nothing."""

import json
import zipfile

import nbformat
import pytest
from click.testing import CliRunner
from test_chapter import SETTINGS, edit
from test_site import Reader, write_book

from d2l_ft.chapter.book import Book
from d2l_ft.chapter.check import problems
from d2l_ft.chapter.outputs import load_run
from d2l_ft.chapter.safe import find_risks, is_active, is_followed, make_harmless
from d2l_ft.chapter.site import build_site
from d2l_ft.cli.main import main
from d2l_ft.errors import ChapterError

pytestmark = pytest.mark.slow

SECRET = 'the victim has a secret'


@pytest.fixture
def root(tmp_path):
    """Return the folder of a book, beside a file that is none of its business."""
    (tmp_path / 'secret.txt').write_text(SECRET)
    (tmp_path / 'secret.png').write_text(SECRET)
    (tmp_path / 'book').mkdir()
    write_book(tmp_path / 'book')
    return tmp_path / 'book'


def build(root):
    """Build a book; return its pages, notebooks and e-books as path -> text."""
    build_site(Book(root), root.parent / 'out', {})
    place = root.parent / 'out/html'
    found = {
        str(path.relative_to(place)): path.read_text()
        for path in place.rglob('*')
        if path.suffix in ('.html', '.ipynb')
    }
    for path in place.rglob('*.epub'):
        with zipfile.ZipFile(path) as book:
            names = [name for name in book.namelist() if name.endswith('html')]
            found |= {f'{path.parent.name}/{name}': book.read(name).decode() for name in names}
    return found


def build_or_refuse(root):
    """Return what ``build`` does, or nothing where the book is refused, which must be one line."""
    message = ''
    try:
        found = build(root)
    except ChapterError as error:
        found, message = {}, str(error)
    assert '\n' not in message
    assert found or message
    return found


READS = {
    'figure': '![A]({path})\n',
    'figure with a label': '![A]({path})\n:label:`fig_b`\n',
    'picture in a text': 'words ![A]({path}) words\n',
    'picture by reference': 'words ![A][a] words\n\n[a]: {path}\n',
    'link': '[A]({path})\n',
    'link with a scheme': '[A](path:{path})\n',
    'include': ':::{{include}} {path}\n:::\n',
    'literalinclude': ':::{{literalinclude}} {path}\n:::\n',
    'tildes': '~~~{{literalinclude}} {path}\n~~~\n',
    'in a list': '- a\n\n  ~~~{{include}} {path}\n  ~~~\n',
    'in a quotation': '> ~~~{{literalinclude}} {path}\n> ~~~\n',
    'raw': ':::{{raw}} html\n:file: {path}\n:::\n',
    'table': ':::{{csv-table}} A\n:file: {path}\n:::\n',
    'download': '{{download}}`{path}`\n',
    'image': ':::{{image}} {path}\n:::\n',
    'html picture': '<img src="{path}">\n',
    'card': ':::{{card}} A\n:img-top: {path}\nwords\n:::\n',
    'rst': ':::{{eval-rst}}\n.. include:: {path}\n:::\n',
}


@pytest.mark.parametrize('where', ['absolute', 'climbs', 'far', 'link'])
@pytest.mark.parametrize('kind', READS)
def test_a_chapter_reads_no_file_elsewhere(root, kind, where):
    """It is refused in one line, or shown as text; the file's content is nowhere."""
    secret = root.parent / 'secret.png'
    path = {
        'absolute': str(secret),
        'climbs': '../secret.png',
        'far': '../' * 12 + str(secret).lstrip('/'),
        'link': 'img/link.png',
    }[where]
    (root / 'img/link.png').symlink_to(secret)
    edit(root / 'fine.md', '## Numbers', READS[kind].format(path=path) + '\n## Numbers')
    assert not any(SECRET in text for text in build_or_refuse(root).values())
    place = root.parent / 'out'
    for file in place.rglob('*') if place.exists() else ():
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    'path',
    ['fine.md', 'book.json', 'fine.claims.json', 'outputs/fine/mxnet/run.json', 'outputs'],
)
def test_no_file_of_a_book_is_a_link_to_elsewhere(root, path):
    target = root.parent / 'elsewhere'
    if (root / path).exists():
        (root / path).rename(target)
    else:
        target.write_text('[]')
    (root / path).symlink_to(target)
    with pytest.raises(ChapterError, match='leads out of the folder of the book') as caught:
        list(problems(Book(root)))
    assert '\n' not in str(caught.value)


def test_a_stored_picture_is_no_link_to_elsewhere(root):
    path = root / 'outputs/fine/mxnet/run.json'
    values = json.loads(path.read_text())
    values['cells']['look']['outputs'][0] |= {'kind': 'picture', 'file': 'a.png'}
    path.write_text(json.dumps(values))
    (path.parent / 'a.png').symlink_to(root.parent / 'secret.png')
    with pytest.raises(ChapterError, match='leads out'):
        load_run(root, 'fine', 'mxnet')


@pytest.mark.parametrize(
    'settings',
    [{'tabs': {'mxnet': 'M', '../x': 'X'}}, {'chapters': {'../fine': '1'}},
     {'languages': {'en': '', 'tr': '/../x'}}, {'chapters': {'/etc/passwd': '1'}},
     {'chapters': {'..': '1'}}],
)  # fmt: skip
def test_names_in_the_settings_lead_nowhere_else(root, settings):
    (root / 'book.json').write_text(json.dumps(SETTINGS | settings))
    with pytest.raises(ChapterError, match='is no name of a tab'):
        Book(root)


RUNS = {
    'block': '<script>alert(1)</script>',
    'inline': 'words <img src=x onerror=alert(1)> words',
    'comment': '<!-- a --><script>alert(1)</script>',
    'lines': 'a <img src="x"\nonerror="alert(1)"> b',
    'list': '- `\n- <script>alert(1)</script>\n- `',
    'tildes': '~~~\n\n~~~\n<script>alert(1)</script>',
    'formula': '$$a$$<script>alert(1)</script>$$b$$',
    'tag': '$$a \\tag{<img src=x onerror=alert(1)>}$$',
    'table': '| a | <script>alert(1)</script> |\n|---|---|\n| <b onclick=alert(1)>x</b> | y |',
    'rows': '| <a title="\n| " onclick=alert(1)>x</a> |',
    'caption': '![a <script>alert(1)</script>](img/a.svg)',
    'heading': '### T <script>alert(1)</script>',
    'raw': ':::{raw} html\n<script>alert(1)</script>\n:::',
    'rst': ':::{eval-rst}\n.. raw:: html\n\n   <script>alert(1)</script>\n:::',
    'link': '[x](javascript:alert(1))',
    'upper': '[x](JaVaScRiPt:alert(1))',
    'entities': '[x](&#106;avascript&colon;alert(1))',
    'white space': '[x](<java&Tab;script:alert(1)>)',
    'percent': '[x](java%0ascript:alert(1))',
    'data': '[x](data:text/html,<script>alert(1)</script>)',
    'vbscript': '[x](vbscript:alert(1))',
    'autolink': '<javascript:alert(1)>',
    'reference': '[x][y]\n\n[y]: javascript:alert(1)',
    'button': ':::{button-link} javascript:alert(1)\nx\n:::',
    'figure': ':::{figure} x\n:target: javascript:alert(1)\n:::',
    'rst link': ':::{eval-rst}\n`x <javascript:alert(1)>`_\n:::',
    'front': '---\nmyst:\n  html_meta:\n    "http-equiv=refresh": "0; url=javascript:a(1)"\n---',
    'fenced': '```<script>alert(1)</script>\nx\n```',
}


def live(text):
    """Return the tags of a page that run something which is not the theme's."""
    found = []
    for tag, attributes in Reader(text).tags:
        bad = [name for name in attributes if name.startswith('on') or name == 'http-equiv']
        bad = [name for name in bad if attributes[name] != 'Content-Security-Policy']
        addresses = [attributes.get(name) or '' for name in ('href', 'src', 'action', 'data')]
        if bad or not all(map(is_followed, addresses)):
            found.append((tag, attributes))
    return found


@pytest.mark.parametrize('kind', RUNS)
def test_a_chapter_runs_nothing(root, kind):
    for name in ('fine.md', 'fine_tr.md'):
        edit(root / name, '## Numbers', RUNS[kind] + '\n\n## Numbers')
    if kind == 'front':
        path = root / 'fine.md'
        path.write_text(RUNS[kind] + '\n\n' + path.read_text())
    for name, text in build_or_refuse(root).items():
        if name.endswith('.ipynb'):
            for cell in nbformat.reads(text, 4).cells:
                if cell.cell_type == 'markdown':
                    assert find_risks(cell.source) == ([], False), name
        else:
            assert '<script>alert' not in text, name
            assert live(text) == [], name


def test_what_is_shown_as_text_stays_readable_and_what_is_harmless_stays(root):
    for text in (
        'a < b and `<script>` and $x<y$', '<https://d2l.ai> [a](https://b.c) [d](#e) ![f](g.png)',
        '1. a\n2. b', '| a | b |\n|---|---|\n| `<c>` | d |', '[a](mailto:b@c.d)', 'f(x)[0]: [y]',
    ):  # fmt: skip
        assert make_harmless(text) == text
    assert make_harmless('a <b>c</b>') == 'a &lt;b>c&lt;/b>'
    for name in ('fine.md', 'fine_tr.md'):
        edit(root / name, '## Numbers', 'a <b>c</b> `<i>`\n\n## Numbers')
    assert 'a &lt;b&gt;c&lt;/b&gt;' in build(root)['en/fine.html']


TITLE = '</title><script>alert(1)</script> & "more"'


def test_titles_in_the_settings_are_text(root):
    titles = {'title': {'en': TITLE, 'tr': TITLE}, 'tabs': {'mxnet': TITLE, 'pytorch': 'P'}}
    threads = {'discussions': {'fine': {'pytorch': 'javascript:alert(1)'}}}
    (root / 'book.json').write_text(json.dumps(SETTINGS | titles | threads))
    for name, text in build(root).items():
        if not name.endswith('.ipynb'):
            assert '<script>alert' not in text, name
            assert live(text) == [], name
    with zipfile.ZipFile(root.parent / 'out/html/en/book.epub') as book:
        assert '&amp;lt;' not in book.read('content.opf').decode()
    text = (root.parent / 'out/html/index.html').read_text()
    assert '&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;more&quot;' in text
    assert '&amp;amp;' not in text


@pytest.mark.parametrize('field', ['device', 'date', 'data'])
@pytest.mark.parametrize('kind', ['inline', 'link', 'raw', 'image'])
def test_what_is_stored_of_a_run_runs_nothing(root, field, kind):
    text = RUNS.get(kind, f'![a]({root.parent}/secret.png)')
    for tab in ('mxnet', 'pytorch'):
        path = root / f'outputs/fine/{tab}/run.json'
        values = json.loads(path.read_text())
        values['made'][field] = text
        values['cells']['look']['outputs'][0]['text'] = f'```\n{text}\n```\n:::\n{text}'
        path.write_text(json.dumps(values))
    for name, page in build_or_refuse(root).items():
        assert SECRET not in page
        if not name.endswith('.ipynb'):
            assert live(page) == [], name


def test_a_chapter_is_not_named_in_the_markup_of_a_page(root):
    settings = {name: value for name, value in SETTINGS.items() if name != 'chapters'}
    (root / 'book.json').write_text(json.dumps(settings))
    (root / 'a" onclick=alert(1) b.md').write_text('# T')
    with pytest.raises(ChapterError, match='is no name of a chapter'):
        Book(root)


def test_every_page_has_a_content_security_policy(root):
    for name, text in build(root).items():
        if name.endswith('.html'):
            tags = Reader(text).tags
            metas = [a for tag, a in tags if tag == 'meta' and 'http-equiv' in a]
            assert [a['http-equiv'] for a in metas] == ['Content-Security-Policy'], name
            policy = metas[0]['content']
            assert "script-src 'self' 'unsafe-eval' 'sha256-" in policy
            assert 'inline' not in policy.partition('script-src')[2].partition(';')[0]
            assert text.index('http-equiv') < text.index('<script')


PLAIN = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{}</svg>'
)
RUNNING = [
    PLAIN.format('<script>alert(1)</script>'), PLAIN.format('<SCRIPT>alert(1)</SCRIPT>'),
    PLAIN.format('<a onclick="alert(1)"><rect/></a>'),
    PLAIN.format('<a xlink:href="java&#9;script:alert(1)"><rect/></a>'),
    PLAIN.format('<use href="data:image/svg+xml;base64,AAAA"/>'),
    PLAIN.format('<foreignObject><p xmlns="http://www.w3.org/1999/xhtml"/></foreignObject>'),
    '<?xml-stylesheet href="a.xsl" type="text/xsl"?>' + PLAIN.format(''),
    '<!DOCTYPE svg [<!ENTITY a "b">]>' + PLAIN.format('&a;'),
    PLAIN.format('<s:script xmlns:s="http://www.w3.org/2000/svg">alert(1)</s:script>'),
    '<svg', 'no picture',
]  # fmt: skip


@pytest.mark.parametrize('picture', RUNNING)
def test_a_picture_that_can_run_something_is_left_out_and_the_page_says_so(root, picture):
    for data in (picture.encode(), picture.encode('utf-16')):
        assert is_active(data, '.svg')
    run = root / 'outputs/fine/mxnet/run.json'
    values = json.loads(run.read_text())
    values['cells']['look']['outputs'][0] |= {'kind': 'picture', 'file': 'a.svg', 'text': 'stands'}
    run.write_text(json.dumps(values))
    (run.parent / 'a.svg').write_text(picture)
    (root / 'img/a.svg').write_text(picture)
    found = build(root)
    assert found['en/fine.html'].count('A picture that could run something is left out.') >= 2
    assert 'stands' in found['en/fine.html']
    assert not list((root.parent / 'out/html').rglob('*.svg'))
    assert 'image/svg+xml' not in found['en/notebooks/fine-mxnet.ipynb']


def test_pictures_of_the_usual_kind_are_shown():
    for inner in ('<defs><rect id="a"/></defs><use xlink:href="#a"/>', '<style>a{b:c}</style>',
                  '<image xlink:href="data:image/png;base64,AAAA"/>'):  # fmt: skip
        assert not is_active(PLAIN.format(inner).encode(), '.svg')
    doctype = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd">'
    assert not is_active(('<?xml version="1.0"?>' + doctype + PLAIN.format('')).encode(), '.svg')


def test_a_trusted_book_may_run_something(root):
    (root / 'book.json').write_text(json.dumps(SETTINGS | {'trusted': True}))
    (root / 'img/a.svg').write_text(RUNNING[0])
    for name in ('fine.md', 'fine_tr.md'):
        edit(root / name, '## Numbers', RUNS['block'] + '\n\n## Numbers')
    text = build(root)['en/fine.html']
    assert RUNS['block'] in text
    assert "script-src 'self' 'unsafe-eval' 'unsafe-inline'" in text
    assert list((root.parent / 'out/html').rglob('*.svg'))
    edit(root / 'fine.md', '(img/a.svg)', '(../secret.png)')
    with pytest.raises(ChapterError, match='leads out'):
        build(root)


def test_without_being_asked_no_cell_is_run(root):
    """Not even at import, as a file that a cell could be taken from, or as a setting of Sphinx."""
    mark = root.parent / 'ran'
    code = f"open({str(mark)!r}, 'w').close()"
    for name in ('fine.md', 'fine_tr.md'):
        edit(root / name, "print('rate', rate)", code)
    for name in ('conf.py', 'saved.py', 'sitecustomize.py'):
        (root / name).write_text(code)
    exec(code)
    assert mark.exists()
    mark.unlink()
    out = str(root.parent / 'out')
    for words in (
        ['build', '--no-run', '--out', out], ['status'], ['check'], ['check', '--translated'],
        ['notebooks', '--out', out + '/notebooks'], ['lib', '--out', out + '/lib'],
    ):  # fmt: skip
        done = CliRunner().invoke(main, ['chapter', words[0], str(root), *words[1:]])
        assert done.exit_code in (0, 1), done.output
        assert not mark.exists(), words
