"""The MXNet backend's batches: loaders, worker processes, transforms of Gluon."""

import os
import random
import signal

import d2l_ft_mxnet as backend
import d2l_ft_mxnet.data
import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from d2l_ft.data.sampling import epoch_order
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.usefixtures('arrays')]


def collect(loader, epochs=(0,)):
    found = []
    for epoch in epochs:
        loader.set_epoch(epoch)
        found += [(images.asnumpy(), labels.asnumpy()) for images, labels in loader]
    return found


def test_to_batch_copies_and_keeps_dtypes():
    for floats, integers in (('float32', 'int32'), ('float64', 'int64')):
        images, labels = np.ones((2, 3, 4, 4), floats), np.array([0, 1], integers)
        ours = backend.to_batch(images, labels)
        images[:] = 0
        assert ours[0].asnumpy().min() == 1
        assert (ours[0].dtype, ours[1].dtype) == (np.dtype(floats), np.dtype(integers))


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_are_the_pipelines_whatever_the_workers(samples, workers):
    pipeline = Pipeline(16, train=True, seed=4)
    loader = backend.loader(samples, pipeline, 3, shuffle=True, workers=workers, seed=5)
    assert len(loader) == 3
    for epoch in (0, 3):
        order = epoch_order(7, 5, epoch, shuffle=True)
        batches = collect(loader, [epoch])
        assert [len(labels) for _, labels in batches] == [3, 3, 1]
        crops = np.stack([pipeline.crop(samples[i].path, epoch, i) for i in order])
        np.testing.assert_array_equal(
            np.concatenate([images for images, _ in batches]), pipeline.to_float(crops)
        )
        labels = np.concatenate([labels for _, labels in batches])
        assert labels.tolist() == [samples[i].label for i in order]
        assert (batches[0][0].dtype, labels.dtype) == (np.float32, np.int32)
    loader.set_epoch(3, start=2)
    (last,) = list(loader)
    np.testing.assert_array_equal(last[0].asnumpy(), batches[2][0])
    del loader


def test_a_gluon_transform_gets_the_decoded_image_and_draws_by_key(samples):
    t = gluon.data.vision.transforms
    draws = [t.RandomResizedCrop(16), t.RandomFlipLeftRight(), t.RandomBrightness(0.4)]
    compose = t.Compose([*draws, t.ToTensor()])
    python = random.getstate()
    alone, forked, there = (
        collect(backend.loader(samples, compose, 3, workers=workers, seed=2, device=device), (0, 1))
        for workers, device in ((0, None), (2, None), (0, mx.cpu()))
    )
    assert random.getstate() == python
    for (images, labels), *others in zip(alone, forked, there, strict=True):
        for other, their_labels in others:
            np.testing.assert_array_equal(images, other)
            np.testing.assert_array_equal(labels, their_labels)
    assert alone[0][0].shape == (3, 3, 16, 16)
    assert not np.array_equal(alone[0][0], alone[3][0])
    plain = t.Compose([t.Resize((20, 16)), t.ToTensor()])
    ((first, _), *_) = collect(backend.loader(samples, plain, 1))
    image = mx.image.imread(samples[0].path)
    np.testing.assert_array_equal(first[0], plain(image).asnumpy())


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('own', [True, False])
def test_an_unreadable_image_is_named_and_the_loader_lives_on(samples, tmp_path, workers, own):
    t = gluon.data.vision.transforms
    pipeline = Pipeline(16) if own else t.Compose([t.Resize(16), t.ToTensor()])
    good = tmp_path / '4.png'
    bytes_before = good.read_bytes()
    good.write_bytes(b'no image')
    loader = backend.loader(samples, pipeline, 2, workers=workers)
    with pytest.raises(DataError, match=r'4\.png') as caught:
        list(loader)
    assert '\n' not in str(caught.value)
    good.write_bytes(bytes_before)
    assert len(list(loader)) == 4


def test_a_killed_worker_is_an_error(samples):
    class Suicide:
        def __call__(self, _):
            os.kill(os.getpid(), signal.SIGKILL)

    loader = backend.loader(samples, Suicide(), 7, workers=1)
    with pytest.raises(DataError, match='use fewer `workers`') as caught:
        list(loader)
    assert '\n' not in str(caught.value)
