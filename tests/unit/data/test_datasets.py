"""Data sets by name, from the environment, and drawn by two processes at once."""

from pathlib import Path

import pytest

import d2l_ft as d2l
from d2l_ft.data import datasets
from d2l_ft.errors import D2LFTError
from d2l_ft.storage import atomic


def test_two_processes_may_draw_the_same_data_set():
    def slower(path, progress):
        path.mkdir(parents=True)
        raise D2LFTError('the other process was faster')

    def unwritable(path, progress):
        atomic.write_atomic(Path('/dev/null/disk'), b'')

    assert datasets._draw_once('x', slower, bar=False).is_dir()
    with pytest.raises(D2LFTError, match='disk'):
        datasets._draw_once('y', unwritable, bar=False)


def test_the_data_set_of_the_environment(folder, monkeypatch):
    monkeypatch.setenv('D2L_FT_DATA', f' {folder} ')
    data = d2l.load_data(bar=False)
    assert (data.name, data.root, data.source) == (str(folder), str(folder), 'imagenet')
    monkeypatch.setenv('D2L_FT_DATA', '')
    drawn = []
    monkeypatch.setattr(datasets, 'sample_folder', lambda bar: drawn.append(bar) or folder)
    data = d2l.load_data()
    assert (data.name, data.source, drawn) == ('sample', 'sample', [True])
