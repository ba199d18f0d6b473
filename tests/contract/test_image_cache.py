"""Who loads images, what is kept of them and where they go changes no batch."""

import multiprocessing
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from d2l_ft.data import datasets, transforms
from d2l_ft.data.datasets import default_cache
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError
from d2l_ft.training.loaders import loader_options, on_gpu

SIZE = 64

FORK = pytest.mark.skipif(
    multiprocessing.get_start_method() != 'fork',
    reason='processes are not forked here, so they do without the cache',
)


def array(tensor):
    """Return a copy of a batch; NumPy 2 asks an array to copy itself, and PyTorch can't."""
    if hasattr(tensor, 'asnumpy'):
        return tensor.asnumpy()
    return np.array(tensor.numpy() if hasattr(tensor, 'numpy') else tensor)


def arrays(loader, epoch):
    loader.set_epoch(epoch)
    return [array(images) for images, _ in loader]


@pytest.mark.parametrize('pipeline', [
    Pipeline(SIZE, train=True), Pipeline(SIZE), Pipeline(SIZE, train=True, views=2),
], ids=['augmented', 'centre', 'views'])  # fmt: skip
@pytest.mark.parametrize('room', [0, 40_000, 1 << 30], ids=['none', 'some', 'all'])
def test_batches_do_not_depend_on_the_cache(backend, folder, pipeline, room, monkeypatch):
    samples = load_folders(folder)[0].samples
    plain = backend.loader(samples, pipeline, 8, shuffle=True, seed=3)
    expected = [arrays(plain, epoch) for epoch in range(3)]
    cache, decoded = ImageCache(room), []
    decode = transforms.decode
    monkeypatch.setattr(transforms, 'decode', lambda path: decoded.append(path) or decode(path))
    loader = backend.loader(samples, pipeline, 8, shuffle=True, seed=3, cache=cache)
    for epoch, batches in enumerate(expected):
        for found, wanted in zip(arrays(loader, epoch), batches, strict=True):
            np.testing.assert_array_equal(found, wanted)
    kept = len(cache)
    assert kept == {0: 0, 1 << 30: 20}.get(room, kept)
    if room == 40_000:
        assert 0 < kept < 20
    assert len(decoded) == 3 * 20 - 2 * kept
    assert cache.used_bytes <= room


def test_a_kept_image_cannot_be_changed(folder):
    path = load_folders(folder)[0].samples[0].path
    cache = ImageCache(1 << 20)
    crop = Pipeline(SIZE).crop(path, cache=cache)
    with pytest.raises(ValueError, match='read-only'):
        crop[0] = 0
    other = Pipeline(32).crop(path, cache=cache)  # another size is another image
    assert other.shape == (32, 32, 3)


def test_views_come_again(folder):
    path = load_folders(folder)[0].samples[0].path
    fresh, two = Pipeline(SIZE, train=True, seed=4), Pipeline(SIZE, train=True, seed=4, views=2)
    for epoch in range(5):
        np.testing.assert_array_equal(two.crop(path, epoch, 7), fresh.crop(path, epoch % 2, 7))
    assert not np.array_equal(fresh.crop(path, 0, 7), fresh.crop(path, 2, 7))


@FORK
@pytest.mark.parametrize('pipeline', [Pipeline(SIZE, train=True), Pipeline(SIZE)],
                         ids=['augmented', 'centre'])  # fmt: skip
def test_what_a_worker_keeps_all_find(framework, folder, pipeline):
    samples, cache = load_folders(folder)[0].samples, ImageCache(1 << 30)
    plain = framework.loader(samples, pipeline, 3, shuffle=True, seed=3)
    expected = [arrays(plain, epoch) for epoch in range(3)]
    loader = framework.loader(samples, pipeline, 3, shuffle=True, seed=3, workers=2, cache=cache)
    for epoch, batches in enumerate(expected):
        for found, wanted in zip(arrays(loader, epoch), batches, strict=True):
            np.testing.assert_array_equal(found, wanted)
        if not epoch:
            assert len(cache) == 20
            for sample in samples:
                Path(sample.path).unlink()  # from now on they are nowhere but in the cache


@FORK
def test_workers_keep_what_fits(framework, folder):
    samples, cache = load_folders(folder)[0].samples, ImageCache(40_000)
    loader = framework.loader(samples, Pipeline(32, train=True), 3, workers=2, cache=cache)
    first = arrays(loader, 0)
    for found, wanted in zip(arrays(loader, 0), first, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert 0 < len(cache) < 20
    assert cache.used_bytes <= 40_000


def image(number):
    """Return an image that no other number has, of a size of its own."""
    draws = np.random.default_rng(number)
    return draws.integers(0, 256, (*draws.integers(1, 60, 2), 3), dtype=np.uint8)


def keep(cache, numbers):
    """Ask for images in an order of this process; end with 1 if one is wrong."""
    for number in np.random.default_rng().permutation(numbers):
        found = cache.get(f'image {number}', lambda number=number: image(number))
        if not np.array_equal(found, image(number)):
            sys.exit(1)


@FORK
def test_processes_keep_at_the_same_time():
    cache, numbers = ImageCache(1 << 24), range(500)
    processes = [multiprocessing.Process(target=keep, args=(cache, numbers)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(cache) >= 500  # two that kept the same at once took twice the room

    def missing():
        raise AssertionError('it was kept')

    for number in numbers:
        np.testing.assert_array_equal(cache.get(f'image {number}', missing), image(number))


def test_a_tiny_image_and_a_full_cache():
    cache = ImageCache(2048)
    tiny = np.full((1, 1, 3), 7, np.uint8)
    for number in range(5):
        np.testing.assert_array_equal(cache.get(f'{number}', lambda: tiny), tiny)
    assert (len(cache), cache.used_bytes) == (2, 2048)


def test_a_cache_that_is_sent_has_no_room(folder):
    cache = pickle.loads(pickle.dumps(ImageCache(1 << 20)))
    assert cache.room == len(cache) == cache.used_bytes == 0
    path = load_folders(folder)[0].samples[0].path
    assert Pipeline(SIZE).crop(path, cache=cache).shape == (SIZE, SIZE, 3)


def test_memory_that_is_not_granted(monkeypatch):
    for room in (1 << 61, 1 << 80):
        with pytest.raises(DataError, match=r'ask for less \(`image_cache`\)') as caught:
            ImageCache(room)
        assert '\n' not in str(caught.value)
    monkeypatch.setattr(datasets, 'free_memory', lambda: 1 << 62)
    assert default_cache().room == 0
    monkeypatch.setattr(datasets, 'free_memory', lambda: None)
    assert default_cache().room == datasets.CACHE_LEAST
    monkeypatch.setattr(datasets, 'free_memory', lambda: 1 << 20)
    assert default_cache().room == 1 << 18


@pytest.mark.parametrize('pipeline', [
    Pipeline(SIZE), Pipeline(SIZE, mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1)),
])  # fmt: skip
def test_standardised_on_a_device_is_bit_equal(framework, pipeline):
    ramp = np.arange(256, dtype=np.uint8)
    crops = np.stack([ramp, ramp[::-1], np.roll(ramp, 7)], axis=-1).reshape(2, 8, 16, 3)
    batch, _ = framework.to_batch(crops, np.zeros(2, np.int32))
    (device,) = framework.devices('cpu')
    found = array(sys.modules[f'{framework.__name__}.data'].make_lookup(pipeline, device)(batch))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), pipeline.to_float(crops).view(np.uint32))


@pytest.mark.parametrize('workers', [0, 1])
def test_batches_on_a_device_are_the_same(framework, folder, workers):
    samples, (device,) = load_folders(folder)[0].samples, framework.devices('cpu')
    pipeline = Pipeline(SIZE, train=True)
    plain = framework.loader(samples, pipeline, 8, shuffle=True, seed=3)
    there = framework.loader(
        samples, pipeline, 8, shuffle=True, seed=3, workers=workers, device=device
    )
    for batch, again in zip(plain, there, strict=True):
        for one, other in zip(batch, again, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(array(one), array(other))


def test_tables_go_to_the_device_once_an_epoch(framework, folder, monkeypatch):
    samples, (device,) = load_folders(folder)[0].samples, framework.devices('cpu')
    made, tables = [], Pipeline.tables
    monkeypatch.setattr(Pipeline, 'tables', lambda self: made.append(1) or tables(self))
    loader = framework.loader(samples, Pipeline(SIZE), 3, device=device)
    assert len(arrays(loader, 0)) == 7
    assert len(made) == 1


def test_workers_and_device_on_a_gpu(framework):
    main = framework.devices('cpu:2')
    assert not on_gpu(framework, main)
    assert loader_options(framework, main) == {'workers': 0, 'cache': None, 'device': None}
    gpu = a_gpu(framework.NAME)
    assert on_gpu(framework, [gpu])
    options = loader_options(framework, [gpu, gpu])
    assert 1 <= options['workers'] <= 8
    assert options['device'] is gpu
    assert loader_options(framework, [gpu], workers=0)['workers'] == 0


def a_gpu(name):
    """Return a framework's name for a GPU, be there one or not."""
    if name == 'mxnet':
        import mxnet

        return mxnet.gpu(0)
    import torch

    return torch.device('cuda', 0)
