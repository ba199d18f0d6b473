"""``compare``: every run has a label of its own, and the suffix of the figure is one of three."""

import subprocess
import sys

import pytest
from conftest import run_config
from test_command import command

from d2l_ft.runs.directory import Run, short_names
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
