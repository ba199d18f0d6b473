"""Generated pages, and the figures in the text of pages, are what the measured numbers give."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.fixture
def figures(monkeypatch):
    """Return the script that fills in the figures."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    import figures

    return figures


@pytest.mark.parametrize(
    'script',
    [
        'parity_page.py',
        'reliability.py',
        'performance.py',
        'mxnet_today.py',
        'figures.py',
        'zoo.py',
    ],
)
def test_a_generated_page_is_fresh(script):
    script = ROOT / 'benchmarks' / script
    done = subprocess.run(
        [sys.executable, str(script), '--check'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_figure_stands_on_a_page(figures):
    text = ''.join(path.read_text() for path in figures.pages())
    assert set(figures.figures()) == {name for _, name, _, _ in figures.MARKED.findall(text)}


def test_a_stale_figure_is_named_and_filled_in(figures):
    text = 'It is <!--figure:a.b-->1.9<!--/figure--> times.'
    filled, problems = figures.fill_page(text, {'a.b': '2.7'})
    assert filled == text.replace('1.9', '2.7')
    assert problems == ["a.b is '1.9', measured '2.7'"]
    assert figures.fill_page(filled, {'a.b': '2.7'}) == (filled, [])


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('x <!--figure:no-->1<!--/figure-->', 'there is no figure no'),
        ('x <!--figure:a-->1', 'a marker has no end'),
        ('<!--figure:a-->1<!--/figure-->', 'line 1: a marker begins the line'),
    ],
)
def test_a_wrong_marker_is_named(figures, text, problem):
    assert figures.fill_page(text, {'a': '1'})[1] == [problem]


def test_the_readme_is_short_and_shows_first_what_matters():
    lines = (ROOT / 'README.md').read_text().splitlines()
    assert len(lines) <= 120
    screen = '\n'.join(lines[:25])
    assert 'make demo' in screen
    assert 'make test' in screen
    assert '](docs/img/' in screen


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_between_files_lead_somewhere(page):
    """The build of the site checks its own pages; the README is not one of them."""
    for target in re.findall(r'\]\(([^)#\s]+)[^)]*\)', page.read_text()):
        if '://' not in target:
            assert (page.parent / target).exists(), target


def test_the_site_builds_without_a_warning_and_shows_what_is_generated(tmp_path):
    import d2l_ft
    from d2l_ft.cli.main import main

    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html',
         '-d', str(tmp_path / 'doctrees'), str(ROOT / 'docs'), str(tmp_path / 'html')],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / 'html/commands.html').read_text()
    for name in main.commands:
        assert f'id="d2l-ft-{name}"' in commands
    for option in main.commands['train'].params:
        assert option.opts[0] in commands
    api = (tmp_path / 'html/api.html').read_text()
    for name in d2l_ft.__all__:
        assert f'id="d2l_ft.{name}"' in api or f'>{name}<' in api
    assert 'id="d2l_ft.Backend.train_step"' in api
    for page in (tmp_path / 'html').glob('*.html'):
        text = page.read_text()
        assert '<!-- generated' not in text
        assert not re.findall(r'(?:src|rel="stylesheet" href)="(?:https?:)?//', text)
