"""What the errors say that no other test reads, and that every place that makes one has a test.

Each error is provoked by a public function with what a user could give it.
"""

import contextlib
import dataclasses
import functools
import http.server
import importlib
import json
import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import error_texts
import numpy as np
import pytest
import reference_backend
from click.testing import CliRunner
from conftest import make_folder, run_config
from served import serve

import d2l_ft as d2l
from d2l_ft.backend import common
from d2l_ft.backend.protocol import Sums
from d2l_ft.backend.registry import BACKENDS, backend_of, get_backend
from d2l_ft.chapter.book import Book
from d2l_ft.chapter.command import chosen_tabs, open_book
from d2l_ft.chapter.outputs import load_run
from d2l_ft.chapter.saved import library_files, write_library
from d2l_ft.chapter.site import build_site
from d2l_ft.chapter.translation import read_paragraphs
from d2l_ft.cli.main import main
from d2l_ft.data import hub
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import scan
from d2l_ft.data.synthetic.tasks import draw, write_target
from d2l_ft.data.transforms import Pipeline, decode
from d2l_ft.errors import (
    BackendNotInstalled,
    ChapterError,
    CheckpointError,
    DataError,
    DeviceError,
    ModelError,
    OptionError,
    ParityError,
    StorageError,
    TrainingDiverged,
    WorkerDied,
)
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.models.gluon_names import canonical_names
from d2l_ft.models.gluon_params import LIST_MAGIC, gluon_state
from d2l_ft.models.initialization import initial_state
from d2l_ft.models.state import check_state, merge_source
from d2l_ft.optim.recipe import Recipe, as_printed, check_reduction
from d2l_ft.optim.schedules import scheduled
from d2l_ft.parity import command as parity
from d2l_ft.parity import proof
from d2l_ft.parity.faults import planted
from d2l_ft.parity.ladder import Result, wait
from d2l_ft.parity.plan import Check, Plan, Trace
from d2l_ft.parity.tolerances import row
from d2l_ft.parity.trace import begin
from d2l_ft.report.figures import save_curves
from d2l_ft.runs.contents import CONTENTS, digest, load_contents
from d2l_ft.runs.directory import Run, claimed, new_path
from d2l_ft.runs.job import train
from d2l_ft.runs.results import evaluate_run, load_net
from d2l_ft.runs.settings import Settings
from d2l_ft.sources.load import load_source, pretrained_net
from d2l_ft.sources.pretrain import pretrain_apart
from d2l_ft.sources.weights import read_weights
from d2l_ft.sources.zoo import imagenet_file
from d2l_ft.storage.archives import extract, extract_only_member
from d2l_ft.storage.atomic import check_writable, new_directory, write_atomic
from d2l_ft.storage.cache import cache_dir
from d2l_ft.storage.downloads import fetch
from d2l_ft.storage.locks import locked
from d2l_ft.training.evaluation import predict
from d2l_ft.training.feature_cache import features
from d2l_ft.training.metrics import Position, accuracy

HASH = 'a' * 40


def says(error, call, *arguments, **options):
    """Return the one line with which a call is refused."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert '\n' not in text
    return text


@pytest.fixture
def blocked(tmp_path):
    """Return a path below what is a file, so that no user can write there."""
    (tmp_path / 'file').write_text('')
    return tmp_path / 'file' / 'below'


@pytest.fixture
def closed():
    """Return a folder, and what takes from this process the right to write there for a moment."""
    with tempfile.TemporaryDirectory(dir='/tmp') as name:  # those of pytest are closed already

        @contextlib.contextmanager
        def as_another():
            root = os.geteuid() == 0  # who may read and write everything
            os.chmod(name, 0o555)
            try:
                if root:
                    os.seteuid(65534)
                yield
            finally:
                if root:
                    os.seteuid(0)
                os.chmod(name, 0o755)

        yield Path(name), as_another


# storage


def test_a_file_or_folder_that_cannot_be_written(blocked):
    def fill():
        with new_directory(blocked):
            pass

    def lock():
        with locked(blocked):
            pass

    for call in (lambda: write_atomic(blocked, b''), lambda: check_writable(blocked), fill, lock):
        assert says(StorageError, call) == (
            f'cannot write {blocked}: {blocked.parent} is not a folder'
        )


def test_a_file_that_another_process_writes(tmp_path):
    def lock():
        with locked(tmp_path / 'a'):
            pass

    with locked(tmp_path / 'a'):
        assert says(StorageError, lock) == (
            f'another process is writing {tmp_path / "a"}: wait for it, or stop it'
        )


def test_an_archive_that_leads_out_of_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('../out.txt', '')
    text = says(DataError, extract, tmp_path / 'a.zip', tmp_path / 'new')
    assert text.startswith(f'{tmp_path / "a.zip"} is not unpacked: ')
    assert '../out.txt' in text


def test_an_archive_of_several_files_in_place_of_one(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('a', '')
        archive.writestr('b', '')
    text = says(DataError, extract_only_member, tmp_path / 'a.zip', tmp_path / 'new')
    assert text.endswith('is not unpacked: it has 2 files instead of one')


def test_an_archive_that_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('a', b'0' * 1000)
    raw = bytearray((tmp_path / 'a.zip').read_bytes())
    raw[100] ^= 1
    (tmp_path / 'a.zip').write_bytes(raw)
    text = says(DataError, extract, tmp_path / 'a.zip', tmp_path / 'new')
    assert text == f"cannot unpack {tmp_path / 'a.zip'}: Bad CRC-32 for file 'a'"


def get(url, target, expected=HASH):
    """Download with the advice that a caller gives."""
    return fetch(url, expected, target, 'use the built-in  --data sample')


def test_a_file_that_the_server_has_not(tmp_path):
    with serve(tmp_path) as url:
        text = says(DataError, get, f'{url}none.zip', tmp_path / 'in' / 'none.zip')
    assert text.startswith(f'cannot download {url}none.zip (HTTP 404 ')
    assert text.endswith(': the address or the mirror is wrong')


def test_a_file_with_another_hash(tmp_path):
    (tmp_path / 'a.zip').write_text('x')
    with serve(tmp_path) as url:
        text = says(DataError, get, f'{url}a.zip', tmp_path / 'in' / 'a.zip')
    assert 'a.zip is not the file that was expected: its hash is ' in text
    assert f'{HASH}: try again later, or use the built-in  --data sample' in text


def test_a_download_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_OFFLINE', '1')
    text = says(DataError, get, 'https://example.org/a.zip', tmp_path / 'a.zip')
    assert 'fetch it once with a network, or use the built-in  --data sample' in text


@pytest.mark.parametrize(
    ('url', 'cause'),
    [
        ('https://name:pass/word@example.org/a', 'is no address such as https://'),
        ('ftp://example.org/a', 'begins with ftp: use an address with https, http, file'),
        ('example.org/a', 'begins with no scheme: use an address with https, http, file'),
    ],
)
def test_an_address_that_is_none(tmp_path, url, cause):
    assert f'the address of the file {cause}' in says(DataError, get, url, tmp_path / 'a')


def test_an_address_that_no_server_can_be_asked_for(tmp_path):
    text = says(DataError, get, 'file://elsewhere.example/a.zip', tmp_path / 'a.zip')
    assert 'file://elsewhere.example/a.zip' in text


def test_a_download_into_a_folder_that_is_taken(tmp_path):
    (tmp_path / 'a.zip').write_text('x')
    (tmp_path / 'in' / 'a.zip').mkdir(parents=True)
    digest = '11f6ad8ec52a2984abaafd7c3b516503785c2072'  # SHA-1 of x
    with serve(tmp_path) as url:
        text = says(StorageError, get, f'{url}a.zip', tmp_path / 'in' / 'a.zip', digest)
    assert text == f'cannot write {tmp_path / "in" / "a.zip"}: Is a directory'


def test_an_address_without_a_server(tmp_path):
    text = says(DataError, get, 'http://a..b/a.zip', tmp_path / 'a.zip')
    assert text.startswith('http://a..b/a.zip is no address of a file (')


def test_a_cache_into_which_others_could_write(tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_HOME', str(tmp_path / 'open'))
    (tmp_path / 'open').mkdir()
    (tmp_path / 'open').chmod(0o777)
    assert says(StorageError, cache_dir) == (
        'other users could write into the cache: if you trust what is there, run  chmod go-w '
        f'{tmp_path / "open"}  or else name another folder in D2L_FT_HOME'
    )


def test_a_cache_of_another_user(tmp_path, monkeypatch):
    monkeypatch.setenv('D2L_FT_HOME', str(tmp_path))
    own = os.getuid()
    monkeypatch.setattr(os, 'getuid', lambda: own + 1)  # only root can give a folder away
    if own == 0:
        os.chown(tmp_path, 12345, -1)
    assert says(StorageError, cache_dir) == (
        f'the cache {tmp_path} belongs to another user, who could replace what is in it: name a '
        'folder of your own in D2L_FT_HOME'
    )


class SendsOn(http.server.BaseHTTPRequestHandler):
    """Sends every request on."""

    to = ''

    def do_GET(self):
        self.send_response(302)
        self.send_header('Location', self.to)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ('address', 'what'),
    [
        ('ftp://example.org/a.zip', 'of ftp'),
        ('https://name:secret@example.org/a.zip', 'with a name and a password'),
    ],
)
def test_a_server_that_sends_on_to_what_is_not_followed(tmp_path, address, what):
    handler = type('Handler', (SendsOn,), {'to': address})
    with http.server.HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_address[1]}/a.zip'
        assert says(DataError, get, url, tmp_path / 'a.zip') == (
            f'{url} sends on to an address {what}, which is not followed: ask whoever runs that '
            'server'
        )


def test_a_server_that_sends_more_than_any_data_set_has(tmp_path, monkeypatch):
    (tmp_path / 'a.zip').write_text('x' * 100)
    monkeypatch.setattr('d2l_ft.storage.downloads.LARGEST', 99)
    with serve(tmp_path) as url:
        text = says(DataError, get, f'{url}a.zip', tmp_path / 'in' / 'a.zip')
    assert text == f'{url}a.zip sends more than 0 GiB: it is no data set'


# models


def test_an_architecture_that_is_unknown(tmp_path):
    text = f'unknown architecture {"resnet19"!r}: choose one of {", ".join(ARCHITECTURES)}'
    assert says(OptionError, initial_state, 'resnet19', {}) == text
    assert says(OptionError, gluon_state, tmp_path / 'a.params', 'resnet19') == text


def test_a_checkpoint_that_is_not_there(tmp_path):
    path = tmp_path / 'a.safetensors'
    assert says(CheckpointError, load_checkpoint, path) == f'there is no checkpoint {path}'


def test_a_checkpoint_of_a_later_version(tmp_path, monkeypatch):
    path = tmp_path / 'a.safetensors'
    with monkeypatch.context() as later:
        later.setattr('d2l_ft.models.checkpoint.FORMAT', 2)
        save_checkpoint(path, Checkpoint({'a': np.ones(3, np.float32)}))
    assert says(CheckpointError, load_checkpoint, path) == (
        f'{path} was written by a newer d2l_ft: update yours'
    )


def test_a_checkpoint_that_is_damaged(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_checkpoint(path, Checkpoint({'a': np.ones(3, np.float32)}))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    text = says(CheckpointError, load_checkpoint, path)
    assert text == f'{path} is damaged (its bytes are not those that were written)'
    path.write_bytes(raw[:20])
    text = says(CheckpointError, load_checkpoint, path)
    assert text.startswith(f'{path} is damaged or no safetensors file (')


def test_a_params_file_that_is_none(tmp_path):
    path = tmp_path / 'a.params'
    assert says(ModelError, gluon_state, path, 'resnet18') == (
        f'cannot read {path}: No such file or directory'
    )
    path.write_bytes(b'0' * 100)
    assert says(ModelError, gluon_state, path, 'resnet18') == (
        f'{path} is damaged or no .params file (it does not begin like one)'
    )


def test_a_state_that_does_not_fit():
    one = np.zeros(1, np.float32)
    assert says(ModelError, check_state, {}, {'a': (1,)}) == (
        "the state has no 'a', which the net needs"
    )
    assert says(ModelError, check_state, {'a': one}, {'a': (2,)}) == (
        "'a' is (1,) in the state, (2,) in the net"
    )
    assert says(ModelError, check_state, {'a': one}, {}) == (
        "the state has 'a', which the net has not"
    )
    assert says(ModelError, merge_source, 'resnet18', {'conv1.weight': one}, {}) == (
        "the source is no resnet18: the state has no 'conv1.weight', which the net needs"
    )


def test_a_net_without_an_output_layer():
    assert says(ModelError, initial_state, 'resnet18', {'conv1.weight': (1,)}) == (
        "resnet18 has no output layer named 'fc'"
    )


def test_a_checkpoint_that_may_not_be_read(closed):
    folder, as_another = closed
    path = folder / 'a.safetensors'
    save_checkpoint(path, Checkpoint({'a': np.ones(3, np.float32)}))
    path.chmod(0)
    with as_another():
        text = says(CheckpointError, load_checkpoint, path)
    assert text == f'cannot read {path}: Permission denied'


def test_names_of_gluon_that_no_state_can_have(tmp_path):
    assert says(ModelError, canonical_names, ['1.gamma', '1.weight']) == (
        "'1.gamma' and '1.weight' are both '1.weight': rename one of them"
    )
    path = tmp_path / 'a.params'
    path.write_bytes(struct.pack('<4Q', LIST_MAGIC, 0, 0, 0))
    assert says(ModelError, gluon_state, path, 'resnet18') == (
        f'{path} has no structural names: write it with net.save_parameters()'
    )


# optim


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'learning_rate': 0.0}, '`learning_rate` must be above 0 and at most 3.4e+38: Recipe('),
        ({'learning_rate': math.nan}, '`learning_rate` must be above 0 and at most 3.4e+38: '),
        ({'head_lr_mult': math.inf}, '`head_lr_mult` must be above 0 and at most 3.4e+38: '),
        ({'learning_rate': 3e38}, 'the rate of the head must be at most 3.4e+38: '),
        ({'weight_decay': -1.0}, '`weight_decay` must be 0 or above and at most 3.4e+38: '),
        ({'momentum': 1.0}, '`momentum` must be in [0, 1): Recipe('),
        ({'reduction': 'max'}, "`reduction` must be 'mean' or 'sum': Recipe("),
    ],
)
def test_a_recipe_with_a_number_that_no_step_can_take(options, text):
    assert says(OptionError, Recipe, **{'learning_rate': 0.1} | options).startswith(text)


def test_a_recipe_that_the_book_does_not_print():
    assert says(OptionError, as_printed, 'jax') == (
        "the book prints no recipe for 'jax', 'fine-tuned': tabs are mxnet, pytorch; nets are "
        'fine-tuned, scratch'
    )


def test_a_reduction_and_a_schedule_that_are_unknown():
    assert says(OptionError, check_reduction, 'max') == (
        "`reduction` must be 'mean', 'sum' or 'book', not 'max'"
    )
    assert says(OptionError, scheduled, 'linear', 0.1, 0.5) == (
        "unknown schedule 'linear': choose one of constant, cosine"
    )


# data


def test_a_data_set_that_is_unknown():
    assert says(DataError, hub.download, 'none') == (
        "no data set is named 'none': DATA_HUB has hotdog"
    )
    assert says(DataError, d2l.load_data, 'none') == (
        'there is no folder none: give sample, hotdog or a folder with a folder of images per class'
    )


def test_a_folder_that_the_archive_has_not(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / 'toy.zip', 'w') as archive:
        archive.writestr('toy/a.txt', '')
    digest = hub.fetch.__globals__['file_digest'](tmp_path / 'toy.zip', HASH)
    with serve(tmp_path) as url:
        monkeypatch.setitem(hub.DATA_HUB, 'toy', (f'{url}toy.zip', digest))
        assert says(DataError, hub.download_extract, 'toy', 'toys') == (
            "the archive of 'toy' has no folder 'toys'"
        )


def test_more_memory_for_images_than_there_is():
    assert says(DataError, ImageCache, 1 << 62) == (
        'the system does not grant 4398046511104 MiB to keep images in: ask for less '
        '(`image_cache`)'
    )


def test_a_picture_that_cannot_be_drawn():
    text = says(DataError, draw, 'bicycle', np.random.default_rng(0))
    assert text.startswith("nothing is named 'bicycle': choose one of ")


def test_pictures_are_drawn_into_no_folder_that_is_used(tmp_path):
    (tmp_path / 'a').write_text('')
    text = says(DataError, write_target, tmp_path)
    assert text == f'{tmp_path} exists already: name another folder, or remove it'


def test_an_image_that_is_gone_or_damaged(tmp_path):
    path = tmp_path / 'a.jpg'
    assert says(DataError, decode, str(path)) == f'cannot read {path}: No such file or directory'
    path.write_text('no image')
    assert says(DataError, decode, str(path)) == (
        f'cannot decode {path}: run  d2l-ft data check  on its folder'
    )


def test_a_folder_that_is_no_data_set(tmp_path):
    assert says(DataError, scan, tmp_path / 'none') == (
        f'{tmp_path / "none"} is not a folder: give one with a folder of images per class'
    )
    folder = make_folder(tmp_path / 'photos')
    (folder / 'train/dark/new').mkdir()
    for path in (folder / 'train/dark').glob('*.jpg'):
        path.rename(folder / 'train/dark/new' / path.name)
    assert 'has no image in it, only folders: move the images of each class right into' in says(
        DataError, load_folders, folder
    )


def test_a_folder_that_may_not_be_read(closed):
    folder, as_another = closed
    (folder / 'inner').mkdir(mode=0)
    with as_another():
        text = says(DataError, scan, folder / 'inner')
    assert text == f'cannot list {folder / "inner"}: Permission denied'


def test_a_class_of_one_image_or_of_none_that_is_good(tmp_path):
    folder = make_folder(tmp_path / 'photos', train=1)
    assert says(DataError, load_folders, folder / 'train') == (
        f"the class 'dark' of {folder / 'train'} has one image, which cannot be split: add images, "
        'or make the folders train/ and test/'
    )
    (folder / 'train/dark/00.jpg').write_text('no image')
    assert says(DataError, d2l.load_data, str(folder), bar=False, skip_bad=True) == (
        f"no image of the class 'dark' in {folder / 'train'} is good"
    )


def test_an_opencv_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    monkeypatch.delitem(sys.modules, 'd2l_ft.data.opencv')
    text = says(DataError, importlib.import_module, 'd2l_ft.data.opencv')
    assert text.startswith('OpenCV cannot be imported (')
    assert ': run  pip install --force-reinstall opencv-python-headless ' in text


# backend


def test_a_net_of_no_framework():
    assert says(ModelError, backend_of, object()) == 'object is a net of neither mxnet nor pytorch'


def test_a_framework_that_is_not_installed(monkeypatch):
    nowhere = dataclasses.replace(BACKENDS['pytorch'], package='no_such_framework')
    monkeypatch.setitem(BACKENDS, 'pytorch', nowhere)
    assert says(BackendNotInstalled, get_backend, 'pytorch') == (
        'the backend pytorch needs no_such_framework, which is not installed: '
        'run  pip install "d2l-ft[pytorch]"'
    )


def test_a_gpu_that_is_not_there():
    def choose(request, found):
        return common.choose_devices(request, 'NumPy', str, str, lambda: found, ', a note')

    assert says(DeviceError, choose, 'gpu', 0) == (
        'NumPy finds no GPU here (0 in all, a note): use auto or cpu'
    )
    assert says(DeviceError, choose, 'gpu:0,1', 1) == (
        'NumPy finds no GPU 1 here (1 in all, a note): use auto or cpu'
    )


def test_what_no_net_can_be_placed_on():
    assert says(DeviceError, common.check_place, [], 'float32') == (
        'a net needs at least one device: use auto or cpu'
    )
    assert says(DeviceError, common.check_place, ['cpu'], 'float8') == (
        "unknown precision 'float8': choose auto, float32, bfloat16"
    )


def test_a_net_without_a_class_or_an_output_layer_that_is_known():
    assert says(ModelError, common.check_classes, 0) == 'a net needs at least one class, not 0'
    net = reference_backend.build_net('resnet18', 2)
    assert says(ModelError, common.find_head, net, str, str, list) == (
        'Net has no output layer that is known: name it one of output, fc, classifier, heads, head'
    )


def test_groups_of_parameters_that_are_empty_or_overlap():
    one, other = object(), object()
    for groups, text in (
        (([one], [one, other], [one, other]), 'a parameter is in the body and in the head'),
        (([], [one], [one]), 'the body has no trainable parameter'),
        (([one], [other], []), 'the head has no trainable parameter'),
    ):
        assert says(ModelError, common.check_groups, *groups) == f'{text}: use `head_lr_mult=1`'


def test_a_backend_without_the_nets_of_the_book_and_without_a_probe():
    from d2l_ft.backend.probe import get_probe

    assert says(ModelError, d2l.resnet18, 2, backend=reference_backend) == (
        "the backend reference has no module book with the book's nets"
    )
    assert says(ParityError, get_probe, reference_backend) == (
        'the backend reference has no module probe, which the proof needs'
    )


# training


def test_a_loss_that_is_not_finite():
    sums = Sums(math.nan, 0, 4)
    assert says(TrainingDiverged, Position(epoch=2).add, sums) == (
        'the loss became nan in epoch 3: train again with a smaller learning rate'
    )
    assert says(TrainingDiverged, accuracy, sums) == (
        'the test loss became nan: train again with a smaller learning rate'
    )
    assert says(TrainingDiverged, accuracy, sums, 3) == (
        'the test loss became nan after epoch 3: train again with a smaller learning rate'
    )


def test_a_net_whose_values_overflow(folder):
    placed = reference_backend.place(reference_backend.build_net('resnet18', 2))
    state = reference_backend.get_state(placed)
    reference_backend.set_state(placed, {name: each * np.nan for name, each in state.items()})
    samples = load_folders(folder)[1].samples
    path = samples[0].path
    assert f'the net gives no finite numbers for {path}, as values in it overflow: ' in says(
        ModelError, predict, reference_backend, placed, samples, Pipeline(32)
    )


def test_a_frozen_body_whose_values_overflow(folder):
    net = reference_backend.build_net('resnet18', 2)
    net.scale *= np.nan
    samples = load_folders(folder)[1].samples
    placed = reference_backend.place(net)
    options = reference_backend, placed, 'resnet18', samples, Pipeline(32), 'float32'
    assert says(ModelError, features, *options, bar=False) == (
        'values in the frozen body overflow: train from another `source`'
    )


# sources


def test_a_source_that_is_none(tmp_path):
    assert says(OptionError, load_source, 'none.pth', 'resnet18', reference_backend) == (
        "there is no source 'none.pth': give sample, imagenet, none or a file"
    )
    assert says(ModelError, read_weights, tmp_path / 'a.h5', 'resnet18') == (
        f'{tmp_path / "a.h5"} is no weights file by its name: .safetensors, .pth, .pt and .params '
        'are read'
    )
    assert says(OptionError, pretrained_net, 'resnet18', 'none', reference_backend) == (
        "the source 'none' is no model: give sample, imagenet or a file"
    )


def test_weights_that_no_net_can_compute_with(tmp_path):
    path = tmp_path / 'a.safetensors'
    for name, value, problem in (
        ('fc.weight', math.inf, 'values that are not finite'),
        ('bn1.running_var', -1.0, 'variances below 0'),
    ):
        save_checkpoint(path, Checkpoint({name: np.full(3, value, np.float32)}, meta={'arch': 'x'}))
        assert says(ModelError, load_source, str(path), 'resnet18', reference_backend) == (
            f'{name} has {problem} in {path}: give other weights'
        )


def test_weights_without_an_output_layer(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_checkpoint(path, Checkpoint({'bn1.bias': np.zeros(3, np.float32)}))
    assert f'{path} has no output layer of resnet18, which is needed here: ' in says(
        ModelError, pretrained_net, 'resnet18', str(path), reference_backend
    )


def test_imagenet_weights_that_a_zoo_has_not():
    text = says(ModelError, imagenet_file, 'resnet18_v2', 'pytorch')
    assert text.startswith('pytorch has no ImageNet weights of resnet18_v2; it has: resnet18, ')
    assert text.endswith('or train from scratch,  `source=none`')
    assert 'it has: none; ' in says(ModelError, imagenet_file, 'resnet18', 'reference')


def test_pre_training_that_fails(tmp_path, monkeypatch):
    pretrain = functools.partial(pretrain_apart, 'resnet18', 'none', 'cpu', bar=False)
    assert says(ModelError, pretrain).startswith("unknown backend 'none': choose one of ")
    for last, text in (
        ('kill -9 $$', 'was killed by signal 9 (out of memory?): free some memory, then run '),
        ('exit 3', 'ended with code 3: what it printed tells why'),
    ):
        python = tmp_path / 'python'
        python.write_text(f'#!/bin/sh\n{last}\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, 'executable', str(python))
        assert f'the process that pre-trains resnet18 {text}' in says(ModelError, pretrain)


# report


def test_a_figure_of_an_unknown_kind(tmp_path):
    assert says(StorageError, save_curves, tmp_path / 'a.gif', {}) == (
        f'cannot draw {tmp_path / "a.gif"}: name a file that ends in .png, .pdf or .svg'
    )


# runs


@pytest.fixture
def run(tmp_path):
    """Return a run without checkpoints."""
    found = Run(tmp_path / 'run', run_config())
    found.save_config()
    return found


def test_a_directory_that_is_taken(run, tmp_path):
    def claim(path):
        with claimed(path, resume=False):
            pass

    assert says(CheckpointError, claim, run.path) == (
        f'{run.path} is not empty: name another with `out`, or go on with its run: `resume=True`'
    )
    assert says(CheckpointError, claim, tmp_path) == (
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
        f'{image} has changed since {out} began: make it as it was, or train anew with another '
        '`out`'
    )
    image.write_bytes(kept)
    run.config = dataclasses.replace(run.config, image_size=33)
    run.save_config()
    assert says(CheckpointError, fit, folder, out, resume=True) == (
        f'{folder} has changed since {out} began: train anew with another `out`'
    )
    run.config = dataclasses.replace(run.config, image_size=32, data='sample')
    run.save_config()
    assert says(CheckpointError, fit, folder, out, resume=True) == (
        f'{out} was begun with `data=sample`: leave the option out, or train anew with another '
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
    assert ': train anew with  `learning_rate=1e+36`  (a tenth)' in text


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
        ({'arch': 'resnet19'}, "`arch` is 'resnet19': choose one of resnet18, resnet34, "),
        ({'image_size': 31}, '`image_size` is 31: give 32 to 8192'),
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


# command line


def refused(*words, **options):
    """Return the one line of a command that is refused."""
    done = CliRunner().invoke(main, list(map(str, words)), **options)
    assert done.exit_code == 2
    line = done.output.removeprefix('d2l-ft: ')
    assert line.count('\n') == 1
    return line.strip()


def test_a_command_that_is_given_no_image(run):
    assert refused('predict', run.path, '-', input='') == (
        'the standard input names no image: give a list of paths, one a line'
    )


def test_a_command_that_goes_on_without_a_run_or_otherwise_than_it_began(tmp_path):
    assert refused('train', '--resume') == '--resume needs the run directory: --out DIR'
    run = Run(tmp_path / 'run', run_config(settings=Settings.of(seed=3)))
    run.save_config()
    assert says(CheckpointError, run.config.settings.resumed, {'seed': 4}) == (
        'the run was begun with `seed=3`: leave the option out, or train anew with another `out`'
    )
    assert refused('train', '--resume', '--out', run.path, '--seed', 4) == (
        'the run was begun with --seed 3: leave the option out, or train anew with another --out'
    )


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


# chapter


@pytest.fixture
def root(tmp_path):
    """Return the folder of a book of one chapter."""
    folder = tmp_path / 'book'
    folder.mkdir()
    (folder / 'fine.md').write_text('# Fine\n:label:`sec_fine`\n\nWords.\n')
    return folder


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'default_tab': 'jax'}, "default_tab is 'jax', which is no tab"),
        ({'chapters': {'a/b': '1'}}, "'a/b' is no name of a tab, a chapter or the end of one: "),
        ({'languages': {'en': '', 'xx': '_xx'}}, "no words of the language 'xx' are known"),
        ({'languages': {'en': '_en'}}, 'one language must have no suffix: the origin'),
    ],
)
def test_settings_that_no_book_can_have(root, settings, text):
    (root / 'book.json').write_text(json.dumps(settings))
    assert f'{root / "book.json"}: {text}' in says(ChapterError, Book, root)


def test_settings_that_cannot_be_read(root):
    (root / 'book.json').write_text('{')
    text = says(ChapterError, Book, root)
    assert text.startswith(f'cannot read the settings {root / "book.json"}: ')


def test_a_folder_without_a_chapter(tmp_path):
    assert says(ChapterError, Book, tmp_path) == (
        f'{tmp_path} has no chapter: name some in {tmp_path / "book.json"}'
    )


def test_a_chapter_whose_name_no_page_can_have(root):
    (root / 'fine.md').rename(root / '+.md')
    assert says(ChapterError, Book, root) == (
        f'{root / "+.md"} is no name of a chapter: use letters, digits, _ and -'
    )


def test_a_chapter_that_is_no_text(root):
    (root / 'fine.md').write_bytes(b'\xff')
    assert says(ChapterError, Book, root).startswith(f'cannot read the chapter {root / "fine.md"}')


def test_a_chapter_with_what_is_not_supported(root):
    (root / 'fine.md').write_text('# Fine\n\n:end_tab:\n')
    assert says(ChapterError, Book, root) == f'{root / "fine.md"}:3: end_tab without begin_tab'


def test_chapters_that_do_not_belong_together(root, tmp_path):
    (tmp_path / 'other.md').write_text('# Other\n')
    assert says(ChapterError, open_book, [root / 'none.md']) == (
        f'there is no {root / "none.md"}: give a folder of chapters, or Markdown files'
    )
    assert says(ChapterError, open_book, [root, root / 'fine.md']) == (
        f'give {root} alone, or files'
    )
    assert says(ChapterError, open_book, [tmp_path / 'other.md', root / 'fine.md']) == (
        'the chapters lie in different folders: give those of one at a time'
    )


def test_a_tab_that_is_unknown(root):
    assert says(ChapterError, chosen_tabs, Book(root), 'jax') == (
        "no tab is named 'jax': choose of mxnet, pytorch, all"
    )


def test_a_label_that_is_used_twice(root):
    (root / 'more.md').write_text('# More\n:label:`sec_fine`\n')
    assert says(ChapterError, Book(root).labels, 'en') == (
        f'{root / "more.md"}:1: the label sec_fine is used twice'
    )


def test_a_cell_with_a_mark_that_is_no_python(root):
    (root / 'fine.md').write_text('# Fine\n\n```{.python .input}\n#@tab all\n#@save\ndef (\n```\n')
    assert says(ChapterError, library_files, Book(root)) == (
        f'{root / "fine.md"}:3: cannot save from the cell: invalid syntax'
    )


def test_a_file_that_is_not_of_the_chapters(root, tmp_path):
    (root / 'fine.md').write_text('# Fine\n\n```{.python .input}\n#@tab all\n#@save\nx = 1\n```\n')
    (tmp_path / 'saved.py').write_text('mine = 1\n')
    assert says(ChapterError, write_library, Book(root), tmp_path) == (
        f'{tmp_path / "saved.py"} was not made by  d2l-ft chapter lib: move it elsewhere, or name '
        'another folder with `out`'
    )


def test_a_note_on_a_translation_that_is_damaged(root):
    (root / 'a.json').write_text('{')
    text = says(ChapterError, read_paragraphs, root / 'a.json')
    assert text.startswith(f'cannot read {root / "a.json"} (')
    assert text.endswith('then run  d2l-ft chapter check --translated')


def test_files_of_a_book_that_may_not_be_read(closed):
    folder, as_another = closed
    path = folder / 'outputs/fine/mxnet/run.json'
    path.parent.mkdir(parents=True)
    for each in (path, folder / 'a.json'):
        each.write_text('{}')
        each.chmod(0)
    with as_another():
        texts = [
            says(ChapterError, load_run, folder, 'fine', 'mxnet'),
            says(ChapterError, read_paragraphs, folder / 'a.json'),
        ]
    assert texts == [
        f'cannot read the outputs {path}: Permission denied',
        f'cannot read {folder / "a.json"}: Permission denied',
    ]


def test_pages_that_cannot_be_made(root, tmp_path):
    (root / 'fine.md').write_text('# Fine\n\n[a link](none.md)\n')
    text = says(ChapterError, build_site, Book(root), tmp_path / 'out', {})
    assert text.startswith('Sphinx (en, html): fine.md:3: WARNING: ')
    assert '\x1b' not in text


def test_pages_that_cannot_be_written(root, blocked):
    assert says(StorageError, build_site, Book(root), blocked, {}) == (
        f'cannot write {blocked / "html"}: {blocked.parent} is not a folder'
    )


def test_pages_for_which_there_is_no_room(root, closed):
    folder, as_another = closed
    book = Book(root)
    build_site(book, folder, {})
    (folder / '.html.lock').chmod(0o666)
    with as_another():
        text = says(StorageError, build_site, book, folder, {})
    assert text == f'cannot write {folder / "html"}: Permission denied'


# parity


def test_a_comparison_that_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(parity, 'PAIR', ())  # so that no framework is needed
    for options, text in (
        ({'rungs': 'none'}, "no rung is named 'none': choose of "),
        ({'heads': 'two'}, "cannot read the heads 'two': write 2,10,1000"),
        ({'heads': '1,10'}, 'a head needs at least 2 classes'),
    ):
        assert says(ParityError, parity.make_plan, **options).startswith(text)


def test_a_comparison_of_nothing():
    empty = Result({}, [], [])
    assert says(ParityError, parity.verdict, empty, print) == 'nothing was compared'


def test_a_fault_and_a_tolerance_that_are_unknown():
    assert says(ParityError, planted('none', None).__enter__).startswith(
        "no fault is named 'none': choose one of "
    )
    assert says(ParityError, row, 'forward', 'smell') == (
        'the table of tolerances has no row for forward, smell'
    )


def test_a_trace_that_is_not_there(tmp_path):
    assert f'the trace {tmp_path} has no forward (' in says(
        ParityError, Trace(tmp_path).arrays, 'forward'
    )
    assert f'the trace {tmp_path} has no forward (' in says(
        ParityError, Trace(tmp_path).facts, 'forward'
    )
    assert f'{tmp_path} has no good plan.json (' in says(ParityError, begin, tmp_path, 'mxnet')


def test_a_framework_that_cannot_be_traced(monkeypatch):
    command = [sys.executable, '-c', 'raise SystemExit("out of memory")']
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    assert says(ParityError, wait, [subprocess.Popen(command, **pipes)]) == (
        'a framework could not be traced: out of memory'
    )


def test_frameworks_that_differ_before_a_fault_is_planted(tmp_path, monkeypatch):
    wrong = Check('forward/resnet18-2/logits', 1.0, 0.1, '', False, 'conv1')
    monkeypatch.setattr(proof, 'trace_pair', lambda *_: None)  # minutes
    monkeypatch.setattr(proof, 'compare', lambda *_: ([wrong], []))
    assert says(ParityError, proof.prove, Plan(str(tmp_path)), tmp_path) == (
        'the frameworks differ before any fault is planted: forward/resnet18-2/logits'
    )


# the frameworks


def end_process(_):
    """Be a transform that the system kills, as where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_process_that_is_killed(framework, folder):
    samples = load_folders(folder)[1].samples
    loader = framework.loader(samples, end_process, 4, workers=1)
    assert says(WorkerDied, list, loader) == (
        'a worker process of the loader died (out of memory?): use fewer `workers`'
    )


def test_a_precision_that_is_unknown(framework):
    net = framework.build_net('resnet18', 2)
    assert says(DeviceError, framework.place, net, framework.devices('cpu'), 'float8') == (
        "unknown precision 'float8': choose auto, float32, bfloat16"
    )


@pytest.mark.needs('pytorch')
def test_an_architecture_that_is_unknown_to_a_file_of_pytorch(tmp_path):
    text = says(OptionError, get_backend('pytorch').read_weights, str(tmp_path), 'resnet19')
    assert text.startswith("unknown architecture 'resnet19': choose one of resnet18, ")


@pytest.mark.needs('mxnet')
def test_a_gluoncv_that_cannot_be_imported(monkeypatch):
    backend = get_backend('mxnet')
    monkeypatch.setitem(sys.modules, 'gluoncv', None)
    text = says(BackendNotInstalled, backend.build_net, 'resnet18', 2)
    assert text.startswith('GluonCV cannot be imported (')
    assert text.endswith(f': run  {BACKENDS["mxnet"].install}')


@pytest.mark.needs('mxnet')
def test_an_imported_graph_cannot_be_frozen():
    import mxnet as mx

    backend = get_backend('mxnet')
    body, images = mx.gluon.nn.Flatten(), mx.sym.var('data', dtype='float32')
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.SymbolBlock(body(images), images))
    net.output = mx.gluon.nn.Dense(2)
    assert says(ModelError, backend.freeze, net) == (
        'an imported SymbolBlock cannot be frozen: build the net from its layers'
    )


def sleep(_):
    """Be a transform that never ends."""
    time.sleep(600)


def test_a_worker_process_that_sends_nothing(framework, folder, monkeypatch):
    monkeypatch.setattr(f'{framework.__name__}.data.PATIENCE', 1)
    samples = load_folders(folder)[1].samples
    loader = framework.loader(samples, sleep, 4, workers=1)
    assert says(WorkerDied, list, loader) == (
        'no batch came from the worker processes of the loader for 1 s: use fewer `workers`'
    )


def test_a_worker_process_of_another_loader_that_is_killed(framework, folder):
    """It is told at the next batch of any loader."""
    samples = load_folders(folder)[1].samples
    one = framework.loader(samples, Pipeline(32), 1, workers=1)
    assert list(one)
    before = set(common.WATCHED)
    other = framework.loader(samples, Pipeline(32), 1, workers=1)
    assert list(other)
    (worker,) = set(common.WATCHED) - before
    batches = iter(one)
    next(batches)
    worker.kill()
    worker.join()
    assert says(WorkerDied, list, batches) == (
        'a worker process of the loader died (out of memory?): use fewer `workers`'
    )
    assert list(one)


@pytest.mark.needs('pytorch')
def test_a_gpu_whose_memory_is_full():
    import torch

    def full(*_):
        raise torch.cuda.OutOfMemoryError

    backend = get_backend('pytorch')
    placed = backend.place(torch.nn.Linear(4, 2))
    trainer = torch.optim.SGD(placed.net.parameters(), 0.1)
    batch = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    assert says(DeviceError, backend.train_step, placed, trainer, batch, full) == (
        'the memory of the GPU is full: use a smaller batch size or image size, or end what else '
        'computes there'
    )


@pytest.mark.needs('pytorch')
def test_an_old_pytorch_and_a_file_that_nobody_has_verified(tmp_path, monkeypatch):
    monkeypatch.setattr('torch.__version__', '2.5.1')
    text = says(
        ModelError, get_backend('pytorch').read_weights, str(tmp_path / 'a.pth'), 'resnet18'
    )
    assert text.startswith('a .pth file can make PyTorch 2.5.1 run what its author wants (CVE-')
    assert text.endswith(': update to 2.10, or convert it to .safetensors')


def test_features_of_a_net_with_dropout(framework):
    placed = framework.place(framework.build_net('mobilenet_v2', 2))
    assert says(ModelError, framework.features, placed, []) == (
        'the net has dropout, so what its head sees is random: leave out `cache_features`'
    )


@pytest.mark.needs('mxnet')
def test_features_of_a_net_of_gluon_that_ends_with_a_convolution():
    import mxnet as mx

    net = mx.gluon.nn.HybridSequential()
    net.output = mx.gluon.nn.Conv2D(2, 1, in_channels=3)
    net.initialize()
    backend = get_backend('mxnet')
    assert says(ModelError, backend.features, backend.place(net), []) == (
        'the net does not end with a Dense layer: leave out `cache_features`'
    )


@pytest.mark.needs('pytorch')
def test_features_of_a_net_of_pytorch_that_ends_with_a_convolution():
    import torch

    net = torch.nn.Sequential()
    net.fc = torch.nn.Conv2d(3, 2, 1)
    batch = torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
    backend = get_backend('pytorch')
    assert says(ModelError, backend.features, backend.place(net), [batch]) == (
        'the head does not see vectors: leave out `cache_features`'
    )


@pytest.mark.needs('pytorch')
def test_a_file_of_pytorch_without_weights(tmp_path):
    import torch

    path = tmp_path / 'a.pth'
    path.write_text('no weights')
    assert says(ModelError, read_weights, path, 'resnet18') == (
        f'{path} is damaged or no file of tensors (it holds other things)'
    )
    torch.save({'epoch': 3}, path)
    assert says(ModelError, read_weights, path, 'resnet18') == (
        f'{path} has no state_dict: save one with torch.save(net.state_dict(), ...)'
    )


# every place


def test_every_place_that_makes_an_error_has_a_test_and_a_line_on_the_page(request):
    """Whoever adds an error adds a test that provokes it, and runs it with ``--error-texts``."""
    if request.config.getoption('--error-texts', None):
        pytest.skip('this run makes the table')
    found, rows = error_texts.places(), error_texts.load(error_texts.TABLE)
    missing = error_texts.untested(found, rows)
    assert not missing, [f'{each.file}:{each.lines[0]}: {each.text}' for each in missing]
    assert not [row['message'] for row in rows.values() if '\n' in row['message']]
    assert set(rows) == {each.key for each in found}, 'the table has places that are gone'
    assert error_texts.PAGE.read_text() == error_texts.page(found, rows), (
        'stale: run  python tests/error_texts.py'
    )
