"""Files and folders are written whole, or not at all."""

import os

import pytest

from d2l_ft.data.synthetic import tasks
from d2l_ft.errors import D2LFTError
from d2l_ft.storage import atomic


def test_writes_are_whole_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    atomic.write_atomic(path, b'old')

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(D2LFTError, match='no space left'):
        atomic.write_atomic(path, b'new')
    assert path.read_bytes() == b'old'
    assert [each.name for each in tmp_path.iterdir()] == ['file']


def test_new_directory_leaves_nothing_on_interrupt(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tasks.write_target(tmp_path / 's', train=1, test=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
