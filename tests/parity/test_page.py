"""The page of the proof: partial runs become one, and two environments stand side by side."""

import json
import sys
from pathlib import Path

import pytest

from d2l_ft.errors import ParityError

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def page(monkeypatch):
    """Return the script as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import parity_page

    return parity_page


def part(arch, checks, seconds=60.0, version='1.0', **plan):
    """Return what a run over one architecture writes; checks are name -> value."""
    rows = [
        {'name': name, 'value': value, 'tolerance': 1e-3, 'unit': 'u', 'ok': value is not None}
        for name, value in checks.items()
    ]
    extent = {'archs': [arch], 'heads': [2], 'rungs': ['samples', 'forward'], 'steps': 50}
    return {
        'equal': all(each['ok'] for each in rows),
        'checks': rows,
        'environment': {
            'versions': {'python': '3', 'torch': version},
            'system': 'Linux',
            'plan': extent | plan,
        },
        'notes': [],
        'seconds': seconds,
    }


def test_parts_become_one(page):
    one = part('vgg11', {'samples/data/files': 0.0, 'forward/vgg11-2/losses-float64': 1e-4})
    two = part('alexnet', {'samples/data/files': 0.0, 'forward/alexnet-2/losses-float64': 2e-4}, 30)
    whole = page.merge([one, two])
    assert [each['name'] for each in whole['checks']] == [
        'samples/data/files', 'forward/vgg11-2/losses-float64', 'forward/alexnet-2/losses-float64',
    ]  # fmt: skip
    assert whole['environment']['plan']['archs'] == ['vgg11', 'alexnet']
    assert (whole['seconds'], whole['equal']) == (90, True)


def test_what_is_measured_again_replaces_what_was_before(page):
    old = part('vgg11', {'pixels/own/old-name': None, 'pixels/data/crops': 0.0})
    assert not page.merge([old])['equal']
    new = part('vgg11', {'pixels/own/train-pil': 0.0}, rungs=['pixels'])
    whole = page.merge([old, new])
    assert [each['name'] for each in whole['checks']] == [
        'pixels/data/crops',
        'pixels/own/train-pil',
    ]
    assert whole['equal']
    assert whole['environment']['plan']['rungs'] == ['samples', 'pixels', 'forward']
    assert not page.merge([new, old])['equal']


@pytest.mark.parametrize(
    ('change', 'words'),
    [({'version': '2.0'}, 'torch 1.0 and 2.0'), ({'steps': 9}, 'another steps')],
)
def test_other_versions_or_plans_are_not_merged(page, change, words):
    with pytest.raises(ParityError, match=words):
        page.merge([part('vgg11', {}), part('alexnet', {}, **change)])


def test_two_environments_stand_side_by_side(page):
    name = 'forward/vgg11-2/losses-float64'
    one, two = part('vgg11', {name: 1e-4}), part('vgg11', {name: 2e-4})
    (line,) = page.worst([one, two], 'forward')
    assert line == '| forward: losses-float64 | 1 | 0.0001 | 0.0002 | 0.001 | 5.0 | u | vgg11-2 |'
    (line,) = page.worst([one, part('vgg11', {})], 'forward')
    assert '| 0.0001 | - | 0.001 |' in line
    (line,) = page.worst([one, part('vgg11', {name: None})], 'forward')
    assert '| inf |' in line  # what is infinitely far is the worst


def test_a_stated_figure_has_no_limit(page):
    one = part('vgg11', {'pixels/own/opencv-test-pil': 210.0, 'pixels/data/crops': 0.0})
    one['checks'][0] |= {'tolerance': None, 'stated': True}
    line = page.worst([one, one], 'pixels')[0]
    assert '| 210 | 210 | stated |  |' in line
    assert '1 checks** (and 1 stated figures)' in page.header(one)[0]


def test_the_flag(page, tmp_path, monkeypatch):
    for number, arch in enumerate(('vgg11', 'alexnet')):
        text = json.dumps(part(arch, {f'forward/{arch}-2/losses-float64': 0.0}))
        (tmp_path / f'{number}.json').write_text(text)
    files = [str(tmp_path / name) for name in ('all.json', '0.json', '1.json')]
    monkeypatch.setattr(sys, 'argv', ['parity_page.py', '--merge', *files])
    page.main()
    assert len(json.loads((tmp_path / 'all.json').read_text())['checks']) == 2
