"""What ``evaluate --data`` takes for the test: all of a folder, or its test part."""

import json
import shutil

import pytest
import reference_backend
from conftest import make_folder
from test_command import command

from d2l_ft.errors import CheckpointError, DataError
from d2l_ft.runs.job import train
from d2l_ft.runs.results import evaluate_run
from d2l_ft.runs.settings import Settings


@pytest.fixture
def run(tmp_path):
    """Return a run that knows 'dark' and 'light', and its folder with parts."""
    folder = make_folder(tmp_path / 'photos', train=6, test=3)
    settings = Settings.of(
        data=str(folder), source='none', image_size=32, batch_size=8, num_epochs=1
    )
    quiet = {'bar': False, 'say': lambda _: None}
    return train(reference_backend, settings, tmp_path / 'run', **quiet)[0], folder


def looked_at(run, data=None):
    found, which = evaluate_run(run, reference_backend, data and str(data), bar=False)
    assert len(found.confusion) == len(found.classes) == 2
    return found, which


@pytest.mark.parametrize('count', [1, 2, 20])
def test_all_of_a_folder_without_parts(run, count, tmp_path):
    plain = make_folder(tmp_path / 'plain', train=count, test=1) / 'train'
    found, which = looked_at(run[0], plain)
    assert len(found.samples) == 2 * count
    assert which == f'all of {plain}'
    assert found.accuracy > 0.5


def test_the_test_part_of_a_folder_with_parts(run):
    for data in (None, run[1]):
        found, which = looked_at(run[0], data)
        assert len(found.samples) == 6
        assert which == f'the test part of {run[1]}'


@pytest.mark.parametrize('name', ['test', 'val', 'Testing', 'validation'])
def test_a_folder_with_a_test_part_alone(run, name, tmp_path):
    """All of it is tested, and named; a class may be missing."""
    folder = tmp_path / 'new'
    shutil.copytree(run[1] / 'train', folder / name)
    (folder / 'labels.csv').write_text('x')
    found, which = looked_at(run[0], folder)
    assert len(found.samples) == 12
    assert which == f'all of {folder / name}'
    shutil.rmtree(folder / name / 'dark')
    assert len(looked_at(run[0], folder)[0].samples) == 6


def test_a_folder_with_two_test_parts(run, tmp_path):
    """The first is tested, and of the other it is said."""
    folder = tmp_path / 'new'
    shutil.copytree(run[1] / 'train', folder / 'val')
    shutil.copytree(run[1] / 'test', folder / 'test')
    found, which = looked_at(run[0], folder)
    assert len(found.samples) == 6
    assert which == f'all of {folder / "test"}, val/ is not used'


def test_a_class_with_the_name_of_a_part(run, tmp_path):
    """It holds images, so it is no part."""
    folder = tmp_path / 'new'
    shutil.copytree(run[1] / 'test' / 'dark', folder / 'test')
    with pytest.raises(CheckpointError, match="does not know: 'test'"):
        looked_at(run[0], folder)


def test_classes_go_by_name(run, tmp_path):
    """A folder may have one of them, at another place in the order."""
    alone = tmp_path / 'alone'
    shutil.copytree(run[1] / 'train' / 'light', alone / 'light')
    found, _ = looked_at(run[0], alone)
    assert {each.label for each in found.samples} == {1}
    assert found.confusion.sum(axis=1).tolist() == [0, 6]
    (alone / 'light').rename(alone / 'shining')
    with pytest.raises(
        CheckpointError, match=r"'shining'; it was trained for 'dark', 'light'"
    ) as caught:
        looked_at(run[0], alone)
    assert '\n' not in str(caught.value)
    shutil.rmtree(alone / 'shining')
    with pytest.raises(DataError, match='at least 1'):
        looked_at(run[0], alone)


def test_what_was_trained_on_is_told(tmp_path):
    folder = make_folder(tmp_path / 'photos', train=10, test=1) / 'train'
    settings = Settings.of(
        data=str(folder), source='none', image_size=32, batch_size=8, num_epochs=1
    )
    run, _ = train(reference_backend, settings, tmp_path / 'run', bar=False, say=lambda _: None)
    assert len(looked_at(run)[0].samples) == 4
    found, which = looked_at(run, folder)
    assert len(found.samples) == 20
    assert which.endswith('also what the run was trained on')


def test_the_command_says_what_and_how_many(framework, folder, tmp_path):
    words = ['--source', 'none', '--image-size', 32, '--lr', 1e-5, '--epochs', 1]
    out, plain = tmp_path / 'run', folder / 'train'
    command('train', '--backend', framework.NAME, '--data', folder, *words, '--out', out)
    text, _ = command('evaluate', out, '--data', plain, '--backend', framework.NAME)
    assert f'on 20 images: all of {plain}' in text
    found = json.loads(
        command('evaluate', out, '--data', plain, '--json', '--backend', framework.NAME)[0]
    )
    assert (found['examples'], found['tested']) == (20, f'all of {plain}')
