"""The drawn data sets: the same pictures each time, of every kind."""

import numpy as np
import pytest
from PIL import Image

from d2l_ft.data.synthetic import tasks
from d2l_ft.errors import DataError


def test_sample_is_reproducible(tmp_path):
    tasks.write_target(tmp_path / 'a', train=3, test=1)
    tasks.write_target(tmp_path / 'b', train=2, test=1)
    tasks.write_target(tmp_path / 'c', seed=1, train=2, test=1)
    name = 'train/hotdog/0002.jpg'
    assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
    assert (tmp_path / 'a' / name).read_bytes() != (tmp_path / 'c' / name).read_bytes()
    with Image.open(tmp_path / 'a' / name) as image:
        assert (image.format, image.mode) == ('JPEG', 'RGB')
    with pytest.raises(DataError, match='exists already'):
        tasks.write_target(tmp_path / 'a', train=1, test=1)


def test_every_kind_is_drawn_and_sizes_vary():
    rng = np.random.default_rng(0)
    assert 'hotdog' not in tasks.SOURCE_CLASSES
    assert len(tasks.SOURCE_CLASSES) >= 10
    pictures = [tasks.draw(kind, rng) for kind in (*tasks.SOURCE_CLASSES, *tasks.TARGET_CLASSES)]
    assert len({picture.shape for picture in pictures}) > 10
    assert all(picture.std() > 5 for picture in pictures)
    with pytest.raises(DataError):
        tasks.draw('stone', rng)
