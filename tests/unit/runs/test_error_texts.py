"""What the errors of runs and their options say."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import reference_backend
from conftest import run_config, says

from d2l_ft.errors import CheckpointError, DataError, OptionError, StorageError, TrainingDiverged
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.runs.contents import CONTENTS, digest, load_contents
from d2l_ft.runs.directory import Run, claim, new_path
from d2l_ft.runs.job import train
from d2l_ft.runs.results import evaluate_run, load_net
from d2l_ft.runs.settings import Settings
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.training.metrics import Position


def test_a_directory_that_is_taken(run, tmp_path):
    def enter(path):
        with claim(path, resume=False):
            pass

    assert says(CheckpointError, enter, run.path) == (
        f'{run.path} is not empty: name another with `out`, or go on with its run: `resume=True`'
    )
    assert says(CheckpointError, enter, tmp_path) == (
        f'{tmp_path} is not empty: name another with `out`'
    )


def test_a_directory_without_a_run(tmp_path):
    assert says(CheckpointError, Run.open, tmp_path) == (
        f'{tmp_path} is no run directory (it has no config.json): train with `out={tmp_path}`'
    )


def test_files_of_a_run_that_are_damaged(run):
    for name, call in (
        ('config.json', lambda: Run.open(run.path)),
        ('metrics.jsonl', run.metrics),
        (CONTENTS, lambda: load_contents(run.path)),
    ):
        (run.path / name).write_text('{')
        assert says(CheckpointError, call).startswith(f'{run.path / name} is damaged (')


def test_files_of_a_run_that_may_not_be_read(closed):
    folder, as_another = closed
    run = Run(folder, run_config())
    for name, call in (
        ('config.json', lambda: Run.open(folder)),
        ('metrics.jsonl', run.metrics),
        (CONTENTS, lambda: load_contents(folder)),
    ):
        (folder / name).write_text('{}')
        (folder / name).chmod(0)
        with as_another():
            text = says(CheckpointError, call)
        assert text == f'cannot read {folder / name}: Permission denied'


def test_a_run_without_a_good_checkpoint(run):
    assert says(CheckpointError, run.best_net) == (
        f'{run.path} has no checkpoint: go on with its run: `resume=True`'
    )
    assert says(CheckpointError, load_net, run, reference_backend, 'scratch') == (
        f'{run.path} has no checkpoint of scratch'
    )
    path = run.path / 'checkpoints/scratch-00001-0000000.safetensors'
    write_atomic(path, b'0' * 100)
    text = says(CheckpointError, run.load, 'scratch')
    assert text.startswith(f'every checkpoint of scratch in {run.path} is damaged: {path} is ')


def test_weights_that_are_not_finite_are_not_kept(run):
    weights = {'fc.weight': np.full(2, np.nan, np.float32)}
    assert says(TrainingDiverged, run.save, 'scratch', weights, {}, Position(2, 1)) == (
        'fc.weight of scratch became infinite or not a number in epoch 3: '
        'train again with a smaller learning rate'
    )


def fit(folder, out, resume=False, **options):
    """Train for an epoch, or go on."""
    settings = Settings.of(
        data=str(folder), source='none', image_size=32, num_epochs=1, devices='cpu', **options
    )
    train(reference_backend, settings, out, resume=resume, bar=False)


def test_a_run_that_does_not_go_with_its_images(folder, tmp_path):
    out = tmp_path / 'run'
    fit(folder, out)
    run = Run.open(out)
    image = folder / 'train/dark/00.jpg'
    kept = image.read_bytes()
    image.write_bytes((folder / 'train/dark/01.jpg').read_bytes())
    assert says(CheckpointError, fit, folder, out, resume=True) == (
        f'{image} has changed since {out} was started: make it as it was, or train again with '
        'another `out`'
    )
    image.write_bytes(kept)
    run.config = dataclasses.replace(run.config, image_size=33)
    run.save_config()
    assert says(CheckpointError, fit, folder, out, resume=True) == (
        f'{folder} has changed since {out} was started: train again with another `out`'
    )
    run.config = dataclasses.replace(run.config, image_size=32, data='sample')
    run.save_config()
    assert says(CheckpointError, fit, folder, out, resume=True) == (
        f'{out} was started with `data=sample`: leave the option out, or train again with another '
        '`out`'
    )
    (folder / 'test/dark').rename(folder / 'test/other')
    (folder / 'train/dark').rename(folder / 'train/other')
    assert says(CheckpointError, evaluate_run, run, reference_backend, str(folder), bar=False) == (
        f"{folder / 'test'} has classes that {out} does not know: 'other'; it was trained for "
        "'dark', 'light'"
    )
    folder.rename(tmp_path / 'elsewhere')
    assert says(CheckpointError, fit, folder, out, resume=True) == (
        f'{folder} is gone: tell where its images are now:  d2l-ft train --out {out} --resume '
        '--data FOLDER'
    )


@pytest.mark.filterwarnings('ignore::RuntimeWarning')  # NumPy's, of what overflows
def test_a_training_that_diverges(folder, tmp_path):
    text = says(TrainingDiverged, fit, folder, tmp_path / 'run', learning_rate=1e37)
    assert text.startswith('scratch: ')
    assert ': train again with  `learning_rate=1e+36`  (a tenth)' in text


def test_images_of_which_a_device_would_get_one(folder, tmp_path):
    text = says(OptionError, fit, folder, tmp_path / 'run', batch_size=1)
    assert text.endswith(': give `batch_size=2` or `image_size=33`')


def test_options_that_contradict_each_other():
    for options, text in (
        ({'views': 2, 'augment': False}, '`augment=False` leaves one view: leave out `views`'),
        (
            {'cache_features': True},
            '`cache_features` needs `freeze`: a body that learns changes them',
        ),
        (
            {'freeze': True, 'source': 'none'},
            '`freeze` needs a `source`: random features would stay random',
        ),
        (
            {'cache_features': True, 'freeze': True},
            '`cache_features` needs crops that come again: add `augment=False`, or `views=4`',
        ),
    ):
        assert says(OptionError, Settings.of(**options).check) == text


def test_an_option_that_is_unknown():
    text = says(OptionError, Settings.of, lr=0.1)
    assert text.startswith("there is no option 'lr'; there are data, image_size, augment, ")
    assert ', learning_rate, ' in text


def test_options_that_hold_what_they_may_not():
    for options, text in (
        (
            {'arch': 'resnet19'},
            "unknown architecture 'resnet19': choose one of resnet18, ",
        ),
        ({'precision': 'x'}, "`precision` is 'x': choose one of auto, float32, bfloat16"),
        ({'image_size': 7}, '`image_size` is 7: give 8 to 8192'),
        ({'num_epochs': 10**30}, '`num_epochs` is a number of over 20 digits: give 1 to 1000000'),
        ({'source': 'x' * 5000}, '`source` has 5000 characters: give 4096 at most'),
        ({'data': 'a\0'}, "`data` is 'a\\x00', which no file can be called: rename it"),
    ):
        assert says(OptionError, Settings.of(**options).check).startswith(text)


def test_classes_that_no_net_can_have():
    for classes, text in (
        ([], 'there are 0 classes: give 1 to 100000'),
        (['a', 'a'], 'two classes have the same name: rename one'),
        (['x' * 5000], 'the name of a class has 5000 characters: give 4096 at most'),
    ):
        assert says(OptionError, run_config(classes=classes).check) == text


def test_images_that_are_too_small_for_a_net(folder, tmp_path, monkeypatch):
    larger = dataclasses.replace(ARCHITECTURES['resnet18'], smallest=75)
    monkeypatch.setitem(ARCHITECTURES, 'resnet18', larger)
    assert says(OptionError, fit, folder, tmp_path / 'run') == (
        'resnet18 needs images of at least 75 pixels, not 32'
    )


def test_an_image_that_is_gone_while_a_run_begins(tmp_path):
    path = tmp_path / 'a.jpg'
    assert says(DataError, digest, str(path)) == f'cannot read {path}: No such file or directory'


def test_a_command_where_no_folder_can_be_made(closed, monkeypatch):
    folder, as_another = closed
    monkeypatch.chdir(folder)
    with as_another():
        text = says(StorageError, new_path, 'mxnet', 'photos')
    assert text.startswith('cannot write runs/')
    assert text.endswith(': Permission denied')


def test_a_file_where_the_runs_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('runs').write_text('')
    text = says(StorageError, new_path, 'mxnet', 'photos')
    assert text == 'runs is not a folder: name another with `out`'
