"""What a run says, and refuses, before it trains."""

import re

import pytest
import reference_backend
from conftest import make_folder
from test_command import command

from d2l_ft.errors import OptionError
from d2l_ft.runs.directory import Run
from d2l_ft.runs.job import train
from d2l_ft.runs.settings import Settings


def lines_of(tmp_path, train_images=10, **options):
    """Train on a folder; return the lines that it says."""
    folder, said = make_folder(tmp_path / 'photos', train=train_images, test=1), []
    settings = Settings.of(data=str(folder), image_size=32, num_epochs=1, **options)
    train(reference_backend, settings, tmp_path / 'run', bar=False, say=said.append)
    return said


def test_source_data_classes_and_steps_are_told(tmp_path):
    said = lines_of(tmp_path, source='none', batch_size=4)
    photos = tmp_path / 'photos'
    assert said[0] == (
        f'source none, data {photos}: 2 classes, 20 images to train on, 5 step(s) an epoch'
    )
    assert 'few steps' in said[1]


def test_ten_steps_are_not_few(tmp_path):
    assert not any('few steps' in line for line in lines_of(tmp_path, source='none', batch_size=2))


def test_photographs_start_from_imagenet(framework, folder, tmp_path, monkeypatch):
    """Not from what learnt drawings. Offline the error tells the ways out."""
    monkeypatch.setenv('D2L_FT_OFFLINE', '1')
    words = ['--backend', framework.NAME, '--data', folder, '--out', tmp_path / 'run']
    _, err = command('train', *words, code=2)
    line = err.splitlines()[-1]
    assert '--source FILE' in line
    assert '--source none' in line
    assert not (tmp_path / 'run').exists()


def test_what_is_kept_names_the_source(tmp_path):
    lines_of(tmp_path, source='none', batch_size=4)
    assert Run.open(tmp_path / 'run').config.settings.model.source == 'none'


@pytest.mark.parametrize(('count', 'batch', 'devices'), [
    (8, 5, 'cpu'), (8, 3, 'cpu'), (8, 1, 'cpu'), (8, 2, 'cpu:2'), (8, 16, 'cpu:9'), (8, 6, 'cpu:3'),
])  # fmt: skip
def test_an_image_that_is_alone_is_told_before_training(framework, count, batch, devices, tmp_path):
    """By both frameworks; the advice is followed, and then it trains."""
    folder, out = make_folder(tmp_path / 'photos', train=count, test=1), tmp_path / 'run'
    settings = Settings.of(
        data=str(folder), source='none', image_size=32, batch_size=batch, num_epochs=1,
        learning_rate=1e-5, devices=devices, precision='float32',
    )  # fmt: skip
    with pytest.raises(OptionError, match='gets one alone') as caught:
        train(framework, settings, out, bar=False, say=lambda _: None)
    assert '\n' not in str(caught.value)
    assert not out.exists()
    changed = dict(re.findall(r'`(\w+)=(\d+)`', str(caught.value)))
    assert 'image_size' in changed
    for name, value in changed.items():
        mended = settings.replace(**{name: int(value)})
        train(framework, mended, tmp_path / name, bar=False, say=lambda _: None)
