"""Cells are run in a kernel of their own framework, and what comes out is kept or not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpec

from d2l_ft.backend.registry import BACKENDS
from d2l_ft.chapter import command, execute
from d2l_ft.chapter.book import Book
from d2l_ft.chapter.check import problems
from d2l_ft.chapter.execute import refresh
from d2l_ft.chapter.freshness import cell_states
from d2l_ft.chapter.kernel import HIDDEN
from d2l_ft.chapter.myst import Myst
from d2l_ft.chapter.outputs import load_run
from d2l_ft.errors import BackendNotInstalled

pytestmark = pytest.mark.slow

CHAPTER = """# Runs

```{.python .input #framework}
#@tab all
%matplotlib inline
import importlib.util
import d2l_ft as d2l
backend = d2l.get_backend()
names = ['mxnet', 'gluoncv', 'torch', 'torchvision']
print(backend.NAME, [name for name in names if importlib.util.find_spec(name)])
```

```{.python .input #picture}
#@tab all
import numpy as np
d2l.show_images([np.zeros((4, 4, 3), np.uint8)], 1, 1);
```

```{.python .input #value}
#@tab all
6 * 7
```
"""


@pytest.fixture
def root(tmp_path):
    """Return a folder with a chapter."""
    folder = tmp_path / 'chapters'
    folder.mkdir()
    (folder / 'book.json').write_text(json.dumps({'chapters': {'runs': '1'}}))
    (folder / 'runs.md').write_text(CHAPTER)
    return folder


def run(root, tab, data=None, overwrite=False):
    """Bring a tab up to date."""
    book = Book(root)
    return refresh(book, book.pages[0], tab, data, overwrite)


def snapshot(root):
    """Return path -> (bytes, inode) of every stored file."""
    files = sorted(path for path in (root / 'outputs').rglob('*') if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_ino) for path in files}


def test_a_tab_runs_with_its_own_framework_and_again_only_when_it_must(
    framework, root, monkeypatch
):
    tab = framework.NAME
    assert run(root, tab).what == 'run'
    stored = load_run(root, 'runs', tab)
    first = stored.cells['framework'].outputs[0].text
    assert first.startswith(tab)
    others = [name for other, names in HIDDEN.items() if other != tab for name in names]
    assert BACKENDS[tab].package in first
    assert not any(repr(name) in first for name in others)
    assert stored.cells['value'].outputs[0].text == '42'
    assert stored.made['data'] == 'sample'
    assert 'cpu' in stored.made['device']
    before = snapshot(root)
    assert any(name.endswith('picture-1.png') for name in before)
    with monkeypatch.context() as patch:
        patch.setattr(execute, 'run_notebook', None)  # nothing may be run
        assert run(root, tab).what == 'fresh'
        (root / 'runs.md').write_text(CHAPTER.replace('# Runs', '# Runs\n\nMore prose.'))
        assert run(root, tab).what == 'fresh'
    assert snapshot(root) == before
    (root / 'runs.md').write_text(CHAPTER.replace('6 * 7', '6 * 8'))
    outcome = run(root, tab)
    assert outcome.what == 'run'
    assert outcome.text.endswith('outputs that changed: value')
    after = snapshot(root)
    picture = next(name for name in after if name.endswith('.png'))
    assert after[picture] == before[picture]  # the same file, not only the same bytes
    assert load_run(root, 'runs', tab).cells['value'].outputs[0].text == '48'


def test_a_failing_cell_keeps_the_outputs_and_is_named(framework, root):
    tab = framework.NAME
    assert run(root, tab).what == 'run'
    (root / 'runs.md').write_text(CHAPTER.replace('6 * 7', "raise ValueError('on purpose')"))
    outcome = run(root, tab)
    line = f'{root}/runs.md:21'
    assert (outcome.what, outcome.text) == ('failed', f'cell value, {line}: ValueError: on purpose')
    assert outcome.trace == (f"{line}: raise ValueError('on purpose')",)
    stored = load_run(root, 'runs', tab)
    assert stored.cells['value'].outputs[0].text == '42'
    states = {each.cell: each.state for each in cell_states(Book(root).pages[0], tab, stored)}
    assert states == {'framework': 'fresh', 'picture': 'fresh', 'value': 'failed'}
    (root / 'runs.md').write_text(CHAPTER.replace('6 * 7', 'import os; os._exit(1)'))
    assert run(root, tab).text.startswith(f'cell value, {root}/runs.md:19: the kernel died')


def test_a_kernel_that_does_not_start_is_one_line(framework, root, monkeypatch, capfd):
    command = [sys.executable, '-c', 'raise SystemExit("no such thing")', '-f', '{connection_file}']
    spec = KernelSpec(argv=command, language='python')
    monkeypatch.setattr(execute.Kernel, 'kernel_spec', property(lambda _: spec))
    outcome = run(root, framework.NAME)
    assert (outcome.what, outcome.text) == (
        'failed', 'cell d2l-ft-facts: the kernel died: no such thing'
    )  # fmt: skip
    assert capfd.readouterr() == ('', '')


def test_outputs_of_real_data_stay_unless_they_are_to_go(framework, root):
    tab = framework.NAME
    run(root, tab)
    path = root / f'outputs/runs/{tab}/run.json'
    values = json.loads(path.read_text())
    values['made'] |= {'data': 'hotdog', 'device': 'gpu(0)'}
    path.write_text(json.dumps(values))
    (root / 'runs.md').write_text(CHAPTER.replace('6 * 7', '6 * 8'))
    outcome = run(root, tab, data='sample')
    assert outcome.what == 'kept'
    assert '--overwrite' in outcome.text
    assert json.loads(path.read_text()) == values
    assert run(root, tab, data='sample', overwrite=True).what == 'run'
    assert load_run(root, 'runs', tab).made['data'] == 'sample'


def test_what_is_printed_while_a_tab_runs_is_nothing(framework, root, capfd):
    run(root, framework.NAME)
    assert capfd.readouterr() == ('', '')
    assert not list(Path.cwd().glob('kernel-*'))


def test_ctrl_c_ends_the_kernel_and_stores_nothing(framework, root):
    mark = str(root / 'begun')
    cell = f"open({mark!r}, 'w').write(str(os.getpid())); time.sleep(100)"
    (root / 'runs.md').write_text(CHAPTER.replace('6 * 7', f'import os, time\n{cell}'))
    command = [sys.executable, '-m', 'd2l_ft', 'chapter', 'build', str(root)]
    with subprocess.Popen(
        [*command, '--tab', framework.NAME], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            until = time.monotonic() + 120
            while not Path(mark).is_file() or not Path(mark).read_text():
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stderr.read().splitlines()[-1] == 'd2l-ft: interrupted'
        finally:
            process.kill()
    kernel = int(Path(mark).read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
    assert not (root / 'outputs').exists()


def test_a_framework_that_is_missing_stops_neither_the_others_nor_what_is_fresh(
    framework, root, monkeypatch
):
    tab = framework.NAME
    other = next(name for name in BACKENDS if name != tab)

    def missing(name):
        if name == other:
            raise BackendNotInstalled(f'no {name}')

    monkeypatch.setattr(execute, 'check_installed', missing)
    said = []
    book = Book(root)
    assert not command.execute(book, [other, tab], None, False, said.append)
    assert said[0] == f'runs {other}: failed: no {other}'
    assert said[1].startswith(f'runs {tab}: run: ')
    said.clear()
    monkeypatch.setattr(execute, 'check_installed', None)  # nothing is run, so nothing is asked
    assert command.execute(book, [tab], None, False, said.append)


def test_a_picture_is_kept_beside_the_text_whatever_the_cells_name(framework, root):
    (root / 'runs.md').write_text(CHAPTER.replace('#picture', '#../../out'))
    assert run(root, framework.NAME).what == 'run'
    (picture,) = root.rglob('*.png')
    assert picture.parent == root / 'outputs/runs' / framework.NAME


BROKEN = {
    'a later line': ('x = 1\n\n1 / 0', [(23, '1 / 0')], 'ZeroDivisionError: division by zero'),
    'in a function': (
        'def f(x):\n    return 1 / x\n\nf(0)',
        [(24, 'f(0)'), (22, 'return 1 / x')],
        'ZeroDivisionError: division by zero',
    ),
    'in the library': (
        "d2l.download('none')",
        [(21, "d2l.download('none')")],
        'DataError: no data',
    ),
    'no Python': ('x = = 1', [(21, 'x = = 1')], 'SyntaxError: invalid syntax'),
    'a branch': (
        "if tab.selected('none'):\n    pass\nelse:\n    1 / 0",
        [(24, '1 / 0')],
        'ZeroDivisionError: division by zero',
    ),
}


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize('kind', BROKEN)
def test_a_failure_names_the_lines_of_the_chapter_and_keeps_what_was_before_it(root, kind):
    source, trace, error = BROKEN[kind]
    (root / 'runs.md').write_text(CHAPTER.replace('6 * 7', source))
    said = []
    assert not command.execute(Book(root), ['pytorch'], None, False, said.append)
    path = root / 'runs.md'
    assert said[0].startswith(f'runs pytorch: failed: cell value, {path}:{trace[-1][0]}: {error}')
    assert said[1:] == [f'  {path}:{line}: {text}' for line, text in trace]
    stored = load_run(root, 'runs', 'pytorch')
    assert list(stored.cells) == ['framework', 'picture']
    states = {each.cell: each.state for each in cell_states(Book(root).pages[0], 'pytorch', stored)}
    assert states == {'framework': 'fresh', 'picture': 'fresh', 'value': 'failed'}
    assert list(root.rglob('picture-1.png'))


@pytest.mark.needs('pytorch')
def test_a_failure_of_code_that_is_gone_is_forgotten(root):
    """On the page, in status and in check alike: after the repair, with a build and without."""
    assert run(root, 'pytorch').what == 'run'
    (root / 'runs.md').write_text(CHAPTER.replace('6 * 7', '1 / 0'))
    assert run(root, 'pytorch').what == 'failed'
    words = 'This cell failed'

    def shown():
        book = Book(root)
        runs = {'pytorch': load_run(root, 'runs', 'pytorch')}
        failed = [each for each in problems(book) if 'is failed' in each]
        text = Myst(book, book.pages[0], book.labels('en'), runs).document()
        assert (words in text) == bool(failed)
        return words in text

    assert shown()
    (root / 'runs.md').write_text(CHAPTER)
    assert not shown()
    assert run(root, 'pytorch').what == 'fresh'
    assert not shown()
    assert load_run(root, 'runs', 'pytorch').failure is None
