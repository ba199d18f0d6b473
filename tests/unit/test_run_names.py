"""Names of runs: each has a directory of its own, and a label of its own in the figure."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import make_folder, run_config
from test_command import command, start

from d2l_ft.errors import StorageError
from d2l_ft.report.figures import draw_curves, encode, escape_undrawable, save_curves
from d2l_ft.runs.directory import Run, claim, new_path, short_names
from d2l_ft.training.metrics import EpochMetrics

HISTORY = [EpochMetrics('scratch', 1, 1.0, 0.5, 0.5, 1.0, 1.0, 1.0)]


def write_run(path):
    """Write a run of one epoch."""
    path.mkdir(parents=True)
    run = Run(path, run_config())
    run.save_config()
    run.add_metrics(HISTORY[0])
    return path


def test_runs_of_one_name_stay_apart(tmp_path):
    names = ['a/run', 'b/run', 'x/a/run', 'other', 'b/other/run']
    paths = [write_run(tmp_path / name) for name in names]
    found = short_names([*paths, tmp_path / 'a/../a/run'])
    assert len(found) == len(set(found.values())) == 5
    assert list(found) == paths
    assert found[paths[3]] == 'other'
    assert found[paths[1]] == 'b/run'
    assert all(str(path).endswith(name) for path, name in found.items())
    text, _ = command('compare', *paths, '--out', tmp_path / 'x.svg')
    assert text.count('scratch') == 5


def test_a_directory_for_each_run_that_begins_in_one_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_path('x', 'photos'), range(40)))
    assert len(set(made)) == 40
    assert all(path.is_dir() and path.name.split('-')[3] == 'photos' for path in made)
    assert len(new_path('x', '文' * 200).name.encode()) < 255
    monkeypatch.chdir(tmp_path / 'runs')
    assert new_path('x', '..').name.split('-')[3].startswith(tmp_path.name[:10])
    (tmp_path / 'file').mkdir()
    monkeypatch.chdir(tmp_path / 'file')
    (tmp_path / 'file/runs').write_text('')
    with pytest.raises(StorageError, match='`out`'):
        new_path('x', 'photos')


def test_three_times_the_same_line_at_once(framework, tmp_path):
    folder = make_folder(tmp_path / 'photos', train=4, test=1)
    words = ['train', '--backend', framework.NAME, '--data', folder, '--source', 'none',
             '--image-size', 32, '--epochs', 1, '--lr', 1e-5]  # fmt: skip
    processes = [start(*words, cwd=tmp_path) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    runs = list((tmp_path / 'runs').iterdir())
    assert len(runs) == 3
    assert all(len(Run.open(path).metrics()) == 1 for path in runs)
    process = start(*words, '--devices', 'gpu:99', cwd=tmp_path)
    process.communicate(timeout=300)
    assert process.returncode == 2
    assert len(list((tmp_path / 'runs').iterdir())) == 3, 'nothing is left of what did not begin'


def shown(figure):
    """Return the labels of a figure's legends as they are drawn, once each."""
    return [[text.get_text() for text in axis.get_legend().get_texts()] for axis in figure.axes]


@pytest.mark.parametrize('name', [
    '$x', '$\\frac{', '$a$ b', '_hidden', '__', 'a_b^c', '\\alpha', '%d {x} &<>', 'ünï', 'кошка',
    '\U000f0000', '', ' ',
])  # fmt: skip
def test_labels_are_drawn_as_they_are(name, recwarn):
    figure = draw_curves({name: HISTORY, 'other': HISTORY})
    expected = name.replace('\U000f0000', '\\U000f0000')
    assert shown(figure) == [[expected, 'other']] * 2
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for kind in ('png', 'pdf', 'svg'):
            assert len(encode(figure, kind)) > 1000
    assert escape_undrawable('ab') == 'ab'


def test_a_script_that_no_font_has_is_escaped():
    """Whichever fonts there are: what is drawn has a glyph for each character."""
    for text in ('猫', 'แมว', 'बिल्ली', '\U0001f408', 'حيوان'):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            encode(draw_curves({text: HISTORY}))


@pytest.mark.parametrize(('suffix', 'begins'), [
    ('.png', b'\x89PNG'), ('.pdf', b'%PDF'), ('.svg', b'<?xml'), ('.SVG', b'<?xml'),
])  # fmt: skip
def test_the_suffix_decides_on_the_format(suffix, begins, tmp_path):
    path = tmp_path / f'x.y{suffix}'
    save_curves(path, {'a': HISTORY})
    assert path.read_bytes().startswith(begins)


@pytest.mark.parametrize('name', ['x', 'x.jpg', 'x.png.txt', '.png', 'x.'])
def test_other_suffixes_are_refused(name, tmp_path):
    path = write_run(tmp_path / 'run')
    done = subprocess.run(
        [sys.executable, '-m', 'd2l_ft', 'compare', path, '--out', tmp_path / name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1
    assert '.png, .pdf or .svg' in done.stderr
    assert not (tmp_path / name).exists()


CLAIM = """
import sys
from pathlib import Path
from d2l_ft.runs.directory import claim

with claim(Path(sys.argv[1]), resume=False):
    print('mine')
"""


def test_whoever_is_refused_leaves_what_another_has_begun(tmp_path):
    """The first may be checking images or pre-training: its directory has a lock and no run."""
    out = tmp_path / 'run'
    with claim(out, resume=False):
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, '-c', CLAIM, out], capture_output=True, text=True, check=False
            )
            assert 'another process is writing' in done.stderr
            assert not done.stdout
        assert out.is_dir()
    assert not out.exists(), 'it stayed empty'
    done = subprocess.run([sys.executable, '-c', CLAIM, out], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'mine\n')
