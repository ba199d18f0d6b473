"""What the errors of backends and devices say, by both frameworks where they compute."""

import dataclasses
import os
import signal
import time

import reference_backend
from conftest import says

import d2l_ft as d2l
from d2l_ft.backend import common
from d2l_ft.backend.registry import BACKENDS, backend_of, get_backend
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import BackendNotInstalled, DeviceError, ModelError, ParityError, WorkerDied


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


def end_process(_):
    """Be a transform that the system kills, as where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_process_that_is_killed(framework, folder):
    samples = load_folders(folder)[1].samples
    loader = framework.loader(samples, end_process, 4, workers=1)
    assert says(WorkerDied, list, loader) == (
        'a worker process of the loader died with exit code -9 (out of memory?): use fewer '
        '`workers`'
    )


def test_a_precision_that_is_unknown(framework):
    net = framework.build_net('resnet18', 2)
    assert says(DeviceError, framework.place, net, framework.devices('cpu'), 'float8') == (
        "unknown precision 'float8': choose auto, float32, bfloat16"
    )


def test_features_of_a_net_with_dropout(framework):
    placed = framework.place(framework.build_net('mobilenet_v2', 2))
    assert says(ModelError, framework.features, placed, []) == (
        'the net has dropout, so what its head sees is random: leave out `cache_features`'
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
        'a worker process of the loader died with exit code -9 (out of memory?): use fewer '
        '`workers`'
    )
    assert list(one)
