"""Settings, numbers, saved code, freshness, claims and checks: what runs no cell."""

import csv
import importlib.util
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from d2l_ft.chapter import freshness
from d2l_ft.chapter.book import Book, Page
from d2l_ft.chapter.check import problems
from d2l_ft.chapter.claims import accept, broken_claims
from d2l_ft.chapter.freshness import cell_states, code_digests, combine, library_digests
from d2l_ft.chapter.myst import Myst
from d2l_ft.chapter.notebooks import colab, make_notebook, read_pins
from d2l_ft.chapter.outputs import CellRun, Output, Run, load_run, save_run
from d2l_ft.chapter.reader import read_chapter
from d2l_ft.chapter.saved import (
    hub_differences,
    hub_entries,
    library_files,
    saved_code,
    saved_parts,
)
from d2l_ft.chapter.translation import note_read, paragraphs, stale_paragraphs, unread_translations
from d2l_ft.data.hub import DATA_HUB
from d2l_ft.errors import ChapterError

HERE = Path(__file__).parent
TABS = ('mxnet', 'pytorch', 'tensorflow', 'jax')

CHAPTER = """# Fine Things
:label:`sec_fine`

Some words, and [**marked ones**].

```{.python .input #start}
#@tab mxnet
import d2l_ft as d2l
rate = 0.1
```

```{.python .input #start}
#@tab pytorch
import d2l_ft as d2l
rate = 0.2
```

## Numbers
:label:`sec_numbers`

See :numref:`sec_numbers`, :ref:`sec_fine` and :eqref:`eq_a`; $x^2$ :cite:`K`.

$$y = x^2$$
:eqlabel:`eq_a`

![A picture](img/a.svg)
:label:`fig_a`

:begin_tab:`mxnet`
for MXNet
:end_tab:

:begin_tab:`pytorch`
for PyTorch
:end_tab:

```{.python .input #look}
#@tab all
print('rate', rate)
```

```{.python .input #train}
#@tab all
#@save
def train(net):  # a function of the chapter
    return d2l.train_ch13(net)
```

```{.python .input #use}
#@tab all
result = train(None)
```

```{.python .input #after}
#@tab all
print(result)
```
"""
SETTINGS = {'languages': {'en': '', 'tr': '_tr'}, 'chapters': {'fine': '7.1'}}


@pytest.fixture
def root(tmp_path):
    """Return a folder of one chapter and its translation, with a picture."""
    (tmp_path / 'img').mkdir()
    (tmp_path / 'img/a.svg').write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (tmp_path / 'book.json').write_text(json.dumps(SETTINGS))
    (tmp_path / 'fine.md').write_text(CHAPTER)
    (tmp_path / 'fine_tr.md').write_text(CHAPTER.replace('Some words', 'Birkaç söz'))
    return tmp_path


def store(root, outputs=None):
    """Store outputs for the chapter as it is now, as a run of it would."""
    page = Book(root).pages[0]
    for tab in ('mxnet', 'pytorch'):
        texts = {name: f'{name} {tab} 0.75' for name in code_digests(page, tab)}
        texts |= (outputs or {}).get(tab, {})
        uses = library_digests(page, tab)
        cells = {
            name: CellRun(
                code, (Output('stream', texts[name], stream='stdout'),), 0.0, combine(uses[name])
            )
            for name, code in code_digests(page, tab).items()
        }
        library = {value: name for each in uses.values() for value, name in each.items()}
        made = {'date': '2026-01-01', 'data': 'sample', 'device': 'cpu', 'versions': {}}
        save_run(root, 'fine', tab, Run(made, cells, library), {})


def edit(path, old, new):
    """Replace a text that occurs once."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def states(root):
    """Return (tab, cell) -> (state, why) of all that is not fresh."""
    page = Book(root).pages[0]
    return {
        (tab, each.cell): (each.state, each.why)
        for tab in ('mxnet', 'pytorch')
        for each in cell_states(page, tab, load_run(root, 'fine', tab))
        if each.state != 'fresh'
    }


@pytest.mark.parametrize('name', ['classes', 'ince-ayar', 'linear', 'saving', 'tabs', 'traps'])
def test_saved_code_is_that_of_d2lbook(name):
    """d2lbook saves nothing of a tab that only prose names; there is nothing to compare then."""
    golden = json.loads((HERE / f'golden/{name}.json').read_text())
    compared = 0
    for default, tabs in golden.items():
        chapter = read_chapter(HERE / f'fixtures/{name}.md', TABS, default)
        for tab, found in tabs.items():
            if not found['saved']:
                continue
            page = Page(chapter, name, 'en', '1')
            ours = [
                text for cell in chapter.cells(tab) for _, text in saved_parts(page, cell, [tab])
            ]
            assert [squeeze(text) for text in ours] == [squeeze(text) for text in found['saved']]
            compared += len(ours)
    assert compared or name in ('linear', 'ince-ayar', 'tabs', 'traps')


def test_a_mark_in_a_string_stays_and_a_magic_does_not_hide_an_error(root):
    cell = "%matplotlib inline\nhint = ('# @save',  #@save\n        '# @save')"
    assert saved_code(cell) == "hint = ('# @save',\n        '# @save')"
    edit(root / 'fine.md', 'result = train(None)', '%matplotlib inline\nresult = train(')
    assert any('never closed' in line for line in problems(Book(root)))


def squeeze(text):
    """Return the lines of code that are not empty."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_the_package_has_what_its_chapters_save(root):
    """And ``check`` tells where a cell and the package part, whatever the cell looks like."""
    project = Path(__file__).parents[2] / 'chapters'
    saved = '\n'.join(library_files(Book(project)).values())
    assert hub_entries(saved) == {name: DATA_HUB[name] for name in ('hotdog',)}
    old = hub_entries(saved)['hotdog']
    text = (project / 'fine-tuning.md').read_text()
    assert old[1] in text
    (root / 'fine.md').write_text(
        CHAPTER + SAVES.format(url="d2l.DATA_URL + 'hotdog.zip'", sha=old[1])
    )
    assert list(hub_differences(Book(root))) == []
    (root / 'fine.md').write_text(CHAPTER + SAVES.format(url="'http://x/hotdog.zip'", sha='0' * 40))
    (line,) = [each for each in problems(Book(root)) if 'DATA_HUB' in each]
    assert 'http://x/hotdog.zip' in line
    assert 'd2l_ft/data/hub.py' in line


SAVES = """
```{{.python .input #saves}}
#@tab all
#@save
d2l.DATA_HUB['hotdog'] = ({url},
                          '{sha}')
d2l.DATA_HUB['mine'] = (d2l.DATA_URL + 'mine.zip', '1')
```
"""


def test_the_chapters_of_the_project_have_no_problem():
    """Stored outputs are fresh, claims hold, the translation is that of its origin."""
    assert list(problems(Book(Path(__file__).parents[2] / 'chapters'))) == []


def test_numbers_and_references(root):
    book = Book(root)
    english, turkish = book.pages
    labels = book.labels('en')
    assert {name: (each.kind, each.number) for name, each in labels.items()} == {
        'sec_fine': ('section', '7.1'),
        'sec_numbers': ('section', '7.1.1'),
        'eq_a': ('equation', '7.1.1'),
        'fig_a': ('figure', '7.1.1'),
    }
    notebook = make_notebook(book, english, 'mxnet', labels)
    text = '\n'.join(cell.source for cell in notebook.cells if cell.cell_type == 'markdown')
    assert 'Some words, and marked ones.' in text
    assert 'See Section 7.1.1, Fine Things and (7.1.1); $x^2$ [K].' in text
    assert '*Fig. 7.1.1: A picture*' in text
    assert 'data:image/svg+xml;base64,' in text
    assert 'for MXNet' in text
    assert 'for PyTorch' not in text
    text = '\n'.join(cell.source for cell in make_notebook(book, turkish, 'mxnet', labels).cells)
    assert 'See Bölüm 7.1.1' in text


def test_a_chapter_alone_knows_the_labels_of_the_others(root):
    settings = SETTINGS | {'chapters': {'fine': '7.1', 'more': '7.2'}}
    (root / 'book.json').write_text(json.dumps(settings))
    for name in ('more.md', 'more_tr.md'):
        (root / name).write_text('# More\n:label:`sec_more`\n\nSee :numref:`sec_fine`.\n')
    alone = Book(root, [root / 'more.md'])
    assert list(problems(alone)) == []
    labels = alone.labels('en')
    assert (
        'See Section 7.1.' in make_notebook(alone, alone.pages[0], 'mxnet', labels).cells[0].source
    )
    assert 'See Section 7.1.' in Myst(alone, alone.pages[0], labels, {}).document()
    whole = Book(root)
    assert (
        '[Section 7.1](fine.md#sec-fine)'
        in Myst(whole, whole.pages[1], whole.labels('en'), {}).document()
    )
    assert list(problems(Book(root, [root / 'more_tr.md']))) == []


def test_notebooks_have_the_same_ids_in_every_tab(root):
    store(root)
    book = Book(root)
    page, labels = book.pages[0], book.labels('en')
    found = {
        tab: make_notebook(book, page, tab, labels, load_run(root, 'fine', tab))
        for tab in book.tabs
    }
    ids = [[cell.id for cell in each.cells if cell.cell_type == 'code'] for each in found.values()]
    assert ids[0] == ids[1] == ['start', 'look', 'train', 'use', 'after']
    assert 'rate = 0.2' in found['pytorch'].cells[1].source
    assert found['pytorch'].cells[3].outputs[0]['text'] == 'look pytorch 0.75'
    again = nbformat.reads(nbformat.writes(found['pytorch']), 4)
    nbformat.validate(again)


def test_a_colab_notebook_installs_pinned_versions(root):
    book = Book(root)
    notebook = make_notebook(book, book.pages[0], 'pytorch', book.labels('en'))
    first, *rest = colab(notebook, book, 'pytorch', 'en', {'torch': '2.1', 'mxnet': '9'}).cells
    assert '%pip install -q "d2l-ft[pytorch]" "torch==2.1"' in first.source
    assert 'mxnet' not in first.source
    assert [cell.id for cell in rest] == [cell.id for cell in notebook.cells]
    first, *_ = colab(notebook, book, 'mxnet', 'en', {'torch': '2.1', 'mxnet': '9'}).cells
    assert first.source.splitlines()[1:] == [
        '%pip install -q "d2l-ft[mxnet-needs]"',
        '%pip install -q --no-deps "mxnet==9" gluoncv',
    ]


def test_pins_are_those_of_the_newest_python(tmp_path):
    assert read_pins(tmp_path / 'none.lock') == {}
    (tmp_path / 'some.lock').write_text(
        "numpy==2.2.6 ; python_full_version < '3.11'\n"
        "numpy==2.5.5 ; python_full_version >= '3.12'\n"
        'mxnet==1.9.1\n'
    )
    assert read_pins(tmp_path / 'some.lock') == {'numpy': '2.5.5', 'mxnet': '1.9.1'}


def test_prose_makes_nothing_stale(root):
    store(root)
    assert states(root) == {}
    edit(root / 'fine.md', 'Some words', 'Other words')
    edit(root / 'fine.md', '# a function of the chapter', '# explained otherwise')
    edit(root / 'fine.md', 'rate = 0.2', 'rate  =  0.2   # a comment')
    assert states(root) == {}


def test_a_literal_makes_its_cell_and_those_after_it_stale_in_its_tab(root):
    store(root)
    edit(root / 'fine.md', 'rate = 0.2', 'rate = 0.3')
    cells = ('start', 'look', 'train', 'use', 'after')
    assert list(states(root)) == [('pytorch', cell) for cell in cells]
    assert states(root)['pytorch', 'start'] == ('stale', 'its code changed')
    assert states(root)['pytorch', 'use'] == ('stale', 'follows start, whose code changed')
    store(root)
    edit(root / 'fine.md', "print('rate', rate)", "print('Rate', rate)")
    assert list(states(root)) == [
        (tab, cell) for tab in ('mxnet', 'pytorch') for cell in ('look', 'train', 'use', 'after')
    ]


def test_a_changed_function_of_the_library_makes_stale_what_uses_it(root, monkeypatch):
    """Directly, or through a function of the chapter or a value that another cell made."""
    store(root)
    name = 'd2l_ft.training.metrics.Position'  # used by train_ch13 through Fit
    real = freshness.library

    def changed(tab):
        found = dict(real(tab))
        if tab == 'mxnet':
            found[name] = replace(found[name], digest='0' * 12)
        return found

    monkeypatch.setattr(freshness, 'library', changed)
    assert list(states(root)) == [('mxnet', cell) for cell in ('train', 'use', 'after')]
    assert states(root)['mxnet', 'use'] == ('stale', 'd2l_ft.training.metrics.Position changed')


def copied(to, tab, old, new):
    """Copy the library with a text replaced in all files; return package -> its folder."""
    roots = {}
    for package in freshness.packages(tab):
        roots[package] = to / package
        source = Path(importlib.util.find_spec(package).origin).parent
        shutil.copytree(source, to / package, ignore=shutil.ignore_patterns('__pycache__'))
    for path in to.rglob('*.py'):
        path.write_text(path.read_text().replace(old, new))
    return roots


@pytest.mark.parametrize('tab', ['mxnet', 'pytorch'])
def test_moving_a_module_makes_nothing_stale_and_a_changed_default_does(
    root, tmp_path_factory, monkeypatch, tab
):
    store(root)
    real = freshness.library
    folder = tmp_path_factory.mktemp('moved')
    moved = copied(folder, tab, 'd2l_ft.training.metrics', 'd2l_ft.fit')
    (moved['d2l_ft'] / 'training/metrics.py').rename(moved['d2l_ft'] / 'fit.py')
    found = freshness.read_library(moved, tab)
    assert 'd2l_ft.fit.Position' in found
    assert 'd2l_ft.training.metrics.Position' not in found
    monkeypatch.setattr(freshness, 'library', lambda each: found if each == tab else real(each))
    assert states(root) == {}
    path = moved['d2l_ft'] / 'fit.py'
    text = path.read_text()
    old = '    waited: float = 0.0'
    assert text.count(old) == 1
    path.write_text(text.replace(old, '    waited: float = 1.0'))
    found = freshness.read_library(moved, tab)
    monkeypatch.setattr(freshness, 'library', lambda each: found if each == tab else real(each))
    assert list(states(root)) == [(tab, cell) for cell in ('train', 'use', 'after')]
    assert states(root)[tab, 'train'] == ('stale', 'd2l_ft.fit.Position changed')


def test_new_and_failed_cells_are_told_apart(root):
    assert states(root)['mxnet', 'look'] == ('never run', 'the tab has no outputs')
    store(root)
    run = load_run(root, 'fine', 'mxnet')
    failure = {'cell': 'use', 'code': run.cells['use'].code, 'error': 'ValueError: no'}
    save_run(root, 'fine', 'mxnet', replace(run, failure=failure), {})
    assert states(root) == {('mxnet', 'use'): ('failed', 'ValueError: no')}
    edit(root / 'fine.md', '```{.python .input #after}', '```{.python .input #later}')
    assert states(root)['mxnet', 'later'] == ('never run', 'a new cell')


def test_outputs_that_do_not_change_are_not_written(root):
    store(root)
    path = root / 'outputs/fine/mxnet/run.json'
    before = path.stat().st_mtime_ns, path.stat().st_ino
    store(root)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    run = load_run(root, 'fine', 'mxnet')
    picture = Output('picture', '<Figure>', file='look-1.png')
    cells = run.cells | {'look': CellRun(run.cells['look'].code, (picture,))}
    save_run(root, 'fine', 'mxnet', replace(run, cells=cells), {'look-1.png': b'png'})
    assert (path.parent / 'look-1.png').read_bytes() == b'png'
    save_run(root, 'fine', 'mxnet', run, {})
    assert not (path.parent / 'look-1.png').exists()


def test_damaged_outputs_are_named(root):
    store(root)
    (root / 'outputs/fine/mxnet/run.json').write_text('{"made": {}}')
    with pytest.raises(ChapterError, match=r'run\.json are damaged .*delete the folder'):
        load_run(root, 'fine', 'mxnet')


def test_outputs_name_no_picture_elsewhere(root):
    store(root)
    path = root / 'outputs/fine/mxnet/run.json'
    path.write_text(path.read_text().replace('"file": ""', '"file": "../a.png"', 1))
    with pytest.raises(ChapterError, match='no name of a picture'):
        load_run(root, 'fine', 'mxnet')


CLAIMS = {
    'equals': ({'equals': 0.75}, {'equals': 0.5}),
    'at_least': ({'at_least': 0.75}, {'at_least': 0.76}),
    'at_most': ({'at_most': 0.75}, {'at_most': 0.74}),
    'between': ({'between': [0.7, 0.8]}, {'between': [0.8, 0.9]}),
    'exceeds': ({'exceeds': 'less'}, {'exceeds': 'start'}),
}


@pytest.mark.parametrize('kind', CLAIMS)
def test_a_claim_holds_or_is_broken(root, kind):
    edit(root / 'fine.md', '#after}', '#less}')
    store(root, {tab: {'less': 'it is 0.5'} for tab in ('mxnet', 'pytorch')})
    good, bad = CLAIMS[kind]
    claim = {'claim': 'it is so', 'cell': 'look', 'find': r'([\d.]+)$'}
    path = root / 'fine.claims.json'
    page = Book(root).pages[0]
    path.write_text(json.dumps([claim | good]))
    assert list(broken_claims(Book(root), page)) == []
    path.write_text(json.dumps([claim | bad]))
    assert [line.split(':')[1] for line in broken_claims(Book(root), page)] == [
        ' mxnet',
        ' pytorch',
    ]
    path.write_text(json.dumps([claim | bad | {'tabs': ['pytorch']}]))
    assert len(list(broken_claims(Book(root), page))) == 1
    path.write_text(json.dumps([claim | bad | {'data': 'hotdog'}]))
    assert list(broken_claims(Book(root), page)) == []


def test_a_broken_claim_tells_the_old_and_the_new_value(root):
    store(root)
    claim = {'claim': 'good enough', 'cell': 'look', 'find': r'([\d.]+)$', 'at_least': 0.7}
    path = root / 'fine.claims.json'
    path.write_text(json.dumps([claim]))
    assert accept(Book(root), Book(root).pages[0]) == 1
    store(root, {'pytorch': {'look': 'test acc 0.5'}})
    (line,) = broken_claims(Book(root), Book(root).pages[0])
    assert line == 'good enough: pytorch: 0.5 (it was 0.75) is not at least 0.7'
    store(root, {'pytorch': {'look': 'nothing'}})
    (line,) = broken_claims(Book(root), Book(root).pages[0])
    assert 'the cell look has no output with' in line


def test_a_claim_may_be_that_the_tabs_agree(root):
    store(root, {tab: {'look': f'shape (2, {512})'} for tab in ('mxnet', 'pytorch')})
    claim = {'claim': 'one shape', 'cell': 'look', 'find': r'\((.*)\)', 'same': True}
    (root / 'fine.claims.json').write_text(json.dumps([claim]))
    page = Book(root).pages[0]
    assert list(broken_claims(Book(root), page)) == []
    store(root, {'mxnet': {'look': '(2, 512)'}, 'pytorch': {'look': '(2, 64)'}})
    assert list(broken_claims(Book(root), page)) == [
        'one shape: the tabs differ: mxnet 2, 512, pytorch 2, 64'
    ]


@pytest.mark.parametrize(
    'text', ['{', '[{"claim": "x"}]', '[{"claim": "x", "cell": "y", "equal": 1}]', '[1]']
)
def test_bad_claims_are_refused(root, text):
    (root / 'fine.claims.json').write_text(text)
    with pytest.raises(ChapterError, match=r'cannot read the claims .*fine\.claims\.json'):
        list(broken_claims(Book(root), Book(root).pages[0]))


def test_a_good_book_has_no_problem(root):
    store(root)
    assert list(problems(Book(root))) == []


EDITS = {
    ':numref:`sec_numbers`': (':numref:`sec_none`', 'sec_none, which is no label'),
    ':cite:`K`': (':citing:`K`', 'the mark citing is not known'),
    '(img/a.svg)': ('(img/b.svg)', 'there is no picture img/b.svg'),
    'A picture](img/a.svg)': ('A](../a.svg)', 'a.svg is not in the folder of the book'),
    'result = train(None)': ('result = train(', 'no Python'),
    "print('rate', rate)": (f"print('rate', rate, '{'x' * 78}')", 'more than 78'),
    '```{.python .input #after}': ('```{.python .input #use}', 'the id use is used twice'),
}


@pytest.mark.parametrize('old', EDITS)
def test_a_problem_is_found_with_file_and_line(root, old):
    new, reason = EDITS[old]
    edit(root / 'fine.md', old, new)
    found = [line for line in problems(Book(root)) if reason in line]
    assert found
    name, line, _ = found[0].removeprefix(f'{root}/').split(':', 2)
    assert name == 'fine.md'
    text = (root / 'fine.md').read_text().splitlines()
    assert new.splitlines()[0] in '\n'.join(text[int(line) - 1 : int(line) + 3])


TRANSLATIONS = {
    "print('rate', rate)": ("print('oran', rate)", 'cells'),
    ':label:`fig_a`': (':label:`fig_b`', 'labels'),
    '## Numbers': ('### Numbers', 'headings'),
    '[**marked ones**]': ('marked ones', 'slide marks'),
    '$x^2$': ('$x^3$', 'formulas'),
    '$$y = x^2$$': ('$$y = x^3$$', 'formulas'),
    ' :cite:`K`': ('', 'references'),
    ':begin_tab:`pytorch`': (':begin_tab:`mxnet`', 'tabs'),
}


@pytest.mark.parametrize('old', TRANSLATIONS)
def test_a_translation_is_compared_with_its_origin(root, old):
    store(root)
    new, kind = TRANSLATIONS[old]
    edit(root / 'fine_tr.md', old, new)
    found = [line for line in problems(Book(root)) if f'the {kind} part from fine.md' in line]
    assert len(found) == 1
    assert found[0].startswith(f'{root}/fine_tr.md:')


def test_a_changed_paragraph_makes_its_translation_stale_until_it_is_read(root):
    store(root)
    path, name = root / 'fine.md', f'{root}/fine_tr.md: {root}/fine.md'
    assert len(list(unread_translations(Book(root)))) == 1
    assert list(problems(Book(root))) == []
    assert note_read(Book(root)) == 1
    assert list(unread_translations(Book(root))) == []
    edit(path, 'Some words, and', 'Some words,\nand')
    edit(root / 'fine_tr.md', 'Birkaç', 'Bazı')
    assert list(problems(Book(root))) == [], 'layout and the translation itself make nothing stale'
    changed = {
        ('Some words', 'Other words'): '[-Some-] {+Other+} words, and [**marked ones**].',
        ('A picture', 'A figure'): 'A [-picture-] {+figure+}',
        ('for MXNet', 'only for MXNet'): '{+only+} for MXNet',
        ('## Numbers', '## Figures'): '[-Numbers-] {+Figures+}',
        ('for PyTorch\n', 'for PyTorch\n\nand more\n'): '{+and more+}',
        ('See :numref', 'Please, see :numref'): '[-See-] {+Please, see+} :numref:`sec_numbers`,',
    }
    before = path.read_text()
    for (old, new), difference in changed.items():
        edit(path, old, new)
        (found,) = (each for each in problems(Book(root)) if 'this translation was read' in each)
        place, _, shown = found.partition(' changed since this translation was read: ')
        assert shown.startswith(difference)
        line = int(place.removeprefix(f'{name}:'))
        assert new.strip().split('\n')[-1] in path.read_text().split('\n')[line - 1]
        path.write_text(before)
    edit(path, ':begin_tab:`pytorch`\nfor PyTorch\n:end_tab:', '')
    assert any('[-for PyTorch-]' in each for each in problems(Book(root)))
    note_read(Book(root))
    assert not any('was read' in each for each in problems(Book(root)))
    (root / 'fine_tr.origin.json').write_text('[{}]')
    with pytest.raises(ChapterError, match='check --translated'):
        list(problems(Book(root)))


def test_every_paragraph_counts(root):
    """One word more in any of them, or one of them gone, is told."""
    note_read(Book(root))
    lines = [line for line, _ in paragraphs(Book(root).pages[0])]
    text = (root / 'fine.md').read_text().split('\n')
    told = 0
    for line in lines:
        changed = list(text)
        changed[line - 1] = changed[line - 1].replace('![A', '![A new', 1)
        if changed == text:
            changed[line - 1] += ' new'
        (root / 'fine.md').write_text('\n'.join(changed))
        book = Book(root)
        told += any('{+' in each for each in stale_paragraphs(book, book.pages[1]))
    assert told == len(lines) >= 6


def test_the_translations_of_the_project_were_read():
    book = Book(Path(__file__).parents[2] / 'chapters')
    assert list(unread_translations(book)) == []
    assert [line for page in book.pages for line in stale_paragraphs(book, page)] == []


DIFFERING = {
    'a later line': ("print('rate', rate)", "print('rate', rate)\nx", "'x'", 'nothing more'),
    'a line': ('    return d2l', '    return  d2l', 'return  d2l', 'return d2l'),
    'the end of a long line': (
        "print('rate', rate)", f"print('{'x' * 60}', rate, 1)", 'xxx', "print('rate', rate)"
    ),
    'tabs': ('#@tab all\nresult', '#@tab mxnet\nresult', "'mxnet'", "'all'"),
    'id': ('#after}', '#later}', "'later'", "'after'"),
}  # fmt: skip


@pytest.mark.parametrize('kind', DIFFERING)
def test_where_a_translation_parts_the_lines_that_differ_are_shown(root, kind):
    store(root)
    old, new, here, there = DIFFERING[kind]
    edit(root / 'fine_tr.md', old, new)
    (line,) = (each for each in problems(Book(root)) if 'the cells part from' in each)
    _, _, shown = line.partition('the cells part from')
    mine, _, its = shown.partition(', there ')
    assert here in mine
    assert there in its
    assert mine.partition(': ')[2] != its


@pytest.mark.parametrize(
    'settings',
    ['{', '[1]', '{"unknown": 1}', '{"tabs": ["mxnet"]}', '{"default_tab": "jax"}',
     '{"languages": {"xx": ""}}', '{"languages": {"en": "_en"}}'],
)  # fmt: skip
def test_bad_settings_are_refused(root, settings):
    (root / 'book.json').write_text(settings)
    with pytest.raises(ChapterError, match=r'book\.json'):
        Book(root)


def test_a_label_is_used_once(root):
    edit(root / 'fine.md', ':label:`fig_a`', ':label:`sec_fine`')
    with pytest.raises(ChapterError, match=r'fine\.md:\d+: the label sec_fine is used twice'):
        list(problems(Book(root)))


def test_the_published_builds_are_those_of_the_chapters_table():
    """The rows are the official builds' own outputs; a repository of trials is left out."""
    root = Path(__file__).parents[2]
    lines = (root / 'benchmarks/published-runs.csv').read_text().splitlines()
    rows = list(csv.DictReader(lines))
    rows = [row for row in rows if 'smolix' not in row['repo']]
    for name in ('fine-tuning.md', 'fine-tuning_tr.md'):
        text = (root / 'chapters' / name).read_text().replace('0,', '0.')
        for framework, title in (('mxnet', 'MXNet'), ('pytorch', 'PyTorch')):
            for net in ('finetune', 'scratch'):
                found = sorted(
                    float(row['test_acc'])
                    for row in rows
                    if (row['framework'], row['net']) == (framework, net)
                )
                count = len(found)
                low, high = found[int(0.05 * count)], found[int(0.95 * count)]
                middle = found[count // 2]
                line = f'| {title} | {count} | {low:.3f} | {middle:.3f} | {high:.3f} |'
                assert line in text
    builds = {}
    for row in rows:
        key = row['framework'], row['repo'], row['date'], row['commit']
        builds.setdefault(key, {})[row['net']] = float(row['test_acc'])
    lost = Counter(
        key[0]
        for key, accuracies in builds.items()
        if accuracies['finetune'] <= accuracies['scratch']
    )
    assert lost == {'mxnet': 10, 'pytorch': 1}
    assert 'In 10 of the 99 builds' in (root / 'chapters/fine-tuning.md').read_text()
