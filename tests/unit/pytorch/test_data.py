"""The PyTorch backend's batches: loaders, worker processes, transforms of torchvision."""

import os
import signal
from dataclasses import dataclass

import d2l_ft_pytorch as backend
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import epoch_order
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError

pytestmark = pytest.mark.needs('mxnet', 'pytorch')


def read(loader, epoch=0, start=0):
    loader.set_epoch(epoch, start)
    return [(images.numpy(), labels.numpy()) for images, labels in loader]


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_are_the_pipelines_for_any_workers(samples, workers):
    pipeline = Pipeline(32, train=True, seed=5)
    loader = backend.loader(samples, pipeline, 3, shuffle=True, workers=workers, seed=9)
    assert len(loader) == 3
    before = torch.random.get_rng_state()
    for epoch in (1, 0):
        order = epoch_order(7, 9, epoch, shuffle=True)
        batches = read(loader, epoch)
        assert [len(labels) for _, labels in batches] == [3, 3, 1]
        for number, (images, labels) in enumerate(batches):
            chosen = order[number * 3 : number * 3 + 3]
            crops = [pipeline.crop(samples[i].path, epoch, i) for i in chosen]
            np.testing.assert_array_equal(images, pipeline.to_float(np.stack(crops)))
            assert images.dtype == np.float32
            assert images.flags.c_contiguous
            assert labels.dtype == np.int64
            assert labels.tolist() == [samples[i].label for i in chosen]
    next(iter(loader))  # an epoch that is left early must not leak into the next
    late = read(loader, 1, start=1)
    whole = read(loader, 1)
    assert len(late) == len(whole) - 1 == 2
    for one, other in zip(late, whole[1:], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    assert torch.equal(before, torch.random.get_rng_state())


def test_torchvision_transform_sees_what_image_folder_gives(samples):
    transform = transforms.Compose(
        [transforms.RandomResizedCrop(32, antialias=True), transforms.ToTensor()]
    )
    found = [
        read(backend.loader(samples, transform, 3, workers=workers, seed=4, device=device))
        for workers, device in ((0, None), (2, None), (0, torch.device('cpu')))
    ]
    for one, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_array_equal(one[0], other[0])
    assert found[0][0][0].shape == (3, 3, 32, 32)
    (images, _), *_ = read(backend.loader(samples, transforms.ToTensor(), 1))
    with Image.open(samples[0].path) as image:
        expected = transforms.ToTensor()(image.convert('RGB'))
    np.testing.assert_array_equal(images[0], expected)


@pytest.mark.parametrize('pipeline', [Pipeline(32), transforms.ToTensor()])
@pytest.mark.parametrize('workers', [0, 1])
def test_damaged_image_is_one_line(samples, tmp_path, pipeline, workers):
    path = tmp_path / 'bad.png'
    path.write_text('no image')
    loader = backend.loader([*samples[:1], Sample(str(path), 0)], pipeline, 2, workers=workers)
    with pytest.raises(DataError, match=r'bad\.png') as caught:
        list(loader)
    assert '\n' not in str(caught.value)


@dataclass(frozen=True)
class Deadly(Pipeline):
    """A pipeline whose process is killed, as for want of memory."""

    def crop(self, path, epoch=0, index=0, cache=None):
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_is_a_data_error(samples, monkeypatch):
    # how long torch waits for a sign of life, 5 seconds otherwise
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.5)
    with pytest.raises(DataError, match='worker') as caught:
        list(backend.loader(samples, Deadly(32), 2, workers=1))
    assert '\n' not in str(caught.value)
