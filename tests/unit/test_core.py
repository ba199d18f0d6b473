"""The core without any framework: registry, recipes, folders, hub, checkpoints, pipeline."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_folder, run_config
from PIL import Image

import d2l_ft as d2l
from d2l_ft.backend import registry
from d2l_ft.backend.devices import parse_devices
from d2l_ft.data import datasets, folder_layout, image_folder, transforms
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.synthetic import tasks
from d2l_ft.errors import (
    BackendBroken,
    BackendNotInstalled,
    D2LFTError,
    DataError,
    DeviceError,
    ModelError,
    OptionError,
    UnknownBackend,
)
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.models.initialization import initial_state
from d2l_ft.models.state import merge_source
from d2l_ft.optim import recipe
from d2l_ft.runs.directory import Run
from d2l_ft.runs.settings import Settings
from d2l_ft.storage import atomic, cache
from d2l_ft.training.evaluation import Evaluation, softmax
from d2l_ft.training.metrics import Position


def python(code, **environment):
    """Run code in a new interpreter and return its output."""
    done = subprocess.run(
        [sys.executable, '-c', code], env=os.environ | environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_importing_the_core_loads_no_framework():
    code = (
        'import sys, pkgutil, importlib, d2l_ft\n'
        'for each in pkgutil.walk_packages(d2l_ft.__path__, "d2l_ft."):\n'
        '    importlib.import_module(each.name)\n'
        'assert "d2l_ft.parity.rungs.step" in sys.modules\n'
        '[getattr(d2l_ft, name) for name in d2l_ft.__all__]\n'
        'print(sorted({"torch", "torchvision", "mxnet", "gluoncv"} & set(sys.modules)))'
    )
    assert python(code) == '[]'


def test_unknown_name():
    with pytest.raises(AttributeError, match='no attribute'):
        _ = d2l.no_such_name


def test_variable_is_read_at_the_call(monkeypatch):
    assert registry.backend_name() == 'pytorch'
    monkeypatch.setenv('D2L_FT_BACKEND', '  MXNet ')
    assert registry.backend_name() == 'mxnet'
    assert registry.backend_name('pytorch') == 'pytorch'
    monkeypatch.setenv('D2L_FT_BACKEND', '')
    assert registry.backend_name() == 'pytorch'
    monkeypatch.setenv('D2L_FT_BACKEND', 'pytroch')
    with pytest.raises(UnknownBackend, match=r'D2L_FT_BACKEND.*mxnet, pytorch'):
        registry.backend_name()


def test_not_installed_and_broken(monkeypatch, tmp_path):
    missing = replace(registry.BACKENDS['pytorch'], package='no_such_framework')
    monkeypatch.setitem(registry.BACKENDS, 'pytorch', missing)
    with pytest.raises(BackendNotInstalled, match=r'pip install "d2l-ft\[pytorch\]"'):
        registry.get_backend('pytorch')
    (tmp_path / 'd2l_ft_broken.py').write_text('import numpy\nnumpy.bool_that_went\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = replace(registry.BACKENDS['mxnet'], module='d2l_ft_broken', package='numpy')
    monkeypatch.setitem(registry.BACKENDS, 'mxnet', broken)
    with pytest.raises(BackendBroken, match=r'bool_that_went.*mxnet-today') as caught:
        registry.get_backend('mxnet')
    assert isinstance(caught.value.__cause__, AttributeError)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('auto', ('auto', [])), (' CPU ', ('cpu', [0])), ('cpu:2', ('cpu', [0, 1])),
        ('gpu', ('gpu', [])), ('gpu:0,2', ('gpu', [0, 2])),
    ],
)  # fmt: skip
def test_parse_devices(text, expected):
    assert parse_devices(text) == expected


@pytest.mark.parametrize('text', ['', 'cpu:0', 'cpu:x', 'gpu:1,1', 'gpu:-1', 'tpu'])
def test_parse_devices_refuses(text):
    with pytest.raises(DeviceError):
        parse_devices(text)


def test_recipes():
    printed = recipe.as_printed('pytorch')
    assert printed.learning_rate == 5e-5
    mean = printed.in_mean_terms(128)
    assert mean.learning_rate == pytest.approx(0.0064)
    assert mean.weight_decay == pytest.approx(0.001 / 128)
    assert recipe.as_printed('mxnet', 'scratch').learning_rate == 0.1
    with pytest.raises(OptionError):
        recipe.as_printed('jax')
    for bad in ({'learning_rate': 0}, {'learning_rate': float('nan')}, {'momentum': 1}):
        with pytest.raises(OptionError):
            recipe.Recipe(**({'learning_rate': 0.1} | bad))


def test_initial_state_does_not_depend_on_the_head():
    shapes = {'conv1.weight': (8, 3, 3, 3), 'bn1.running_var': (8,), 'fc.bias': (2,)}
    two = initial_state('resnet18', shapes | {'fc.weight': (2, 8)})
    ten = initial_state('resnet18', shapes | {'fc.weight': (10, 8)})
    assert np.array_equal(two['conv1.weight'], ten['conv1.weight'])
    bound = np.sqrt(6 / (11 * 9))
    assert 0.9 * bound < np.abs(two['conv1.weight']).max() <= bound
    assert (two['bn1.running_var'] == 1).all()
    assert not two['fc.bias'].any()
    other = initial_state('resnet18', shapes | {'fc.weight': (2, 8)}, seed=1)
    assert not np.array_equal(two['conv1.weight'], other['conv1.weight'])
    merged = merge_source('resnet18', two, other | {'fc.weight': np.zeros((5, 8))})
    assert np.array_equal(merged['conv1.weight'], other['conv1.weight'])
    assert np.array_equal(merged['fc.weight'], two['fc.weight'])
    with pytest.raises(ModelError):
        merge_source('resnet18', two, {})


def test_crops_depend_on_epoch_and_index_alone(folder):
    path = str(folder / 'train' / 'dark' / '00.jpg')
    pipeline = transforms.Pipeline(32, train=True)
    one = pipeline.crop(path, 1, 5)
    assert one.shape == (32, 32, 3)
    assert np.array_equal(one, pipeline.crop(path, 1, 5))
    assert not np.array_equal(one, pipeline.crop(path, 2, 5))
    assert not np.array_equal(one, pipeline.crop(path, 1, 6))


def test_a_flip_turns_left_to_right(folder):
    path, pipeline = (
        folder_layout.load_folders(folder)[0].samples[0].path,
        transforms.Pipeline(32, train=True),
    )
    image, flips = transforms.decode(path), []
    for index in range(8):
        (top, left, height, width), flip = pipeline.draw(*image.shape[:2], 0, index)
        expected = transforms.resize(image[top : top + height, left : left + width], 32, 32)
        crop = pipeline.crop(path, 0, index)
        np.testing.assert_array_equal(crop, expected[:, ::-1] if flip else expected)
        assert crop.flags.c_contiguous
        flips.append(flip)
    assert {True, False} == set(flips)


def test_boxes_lie_inside_and_have_the_area():
    draws = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        top, left, height, width = transforms.random_box(90, 140, draws)
        assert 0 <= top <= 90 - height
        assert 0 <= left <= 140 - width
        shares.append(height * width / (90 * 140))
    assert min(shares) > 0.07
    assert 0.35 < np.mean(shares) < 0.6
    assert transforms.random_box(10, 1000, np.random.default_rng(0))[2:] == (10, 13)


def test_floats_are_the_frameworks_arithmetic():
    crops = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    pipeline = transforms.Pipeline(5)
    floats = pipeline.to_float(crops)
    mean, std = (
        np.array(each, np.float32).reshape(3, 1, 1) for each in (pipeline.mean, pipeline.std)
    )
    expected = (crops.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) - mean) / std
    assert floats.dtype == np.float32
    assert np.array_equal(floats, expected)
    assert np.array_equal(pipeline.to_uint8(floats), crops)


def test_scan_lists_sorted_and_counts_what_it_skips(tmp_path):
    root = make_folder(tmp_path / 'p') / 'train'
    (root / 'dark' / 'deeper').mkdir()
    (root / 'dark' / '.hidden.jpg').write_bytes(b'')
    (root / 'dark' / 'notes.txt').write_text('x')
    (root / 'loose.jpg').write_bytes(b'')
    found = image_folder.scan(root)
    assert found.classes == ['dark', 'light']
    assert [each.label for each in found.samples] == [0] * 10 + [1] * 10
    assert found.samples == sorted(found.samples, key=lambda each: each.path)
    note = found.note()
    for text in ('1 hidden', '1 nested folders', '1 .txt', '1 files beside'):
        assert text in note


def test_scan_refuses(tmp_path):
    with pytest.raises(DataError, match='not a folder'):
        image_folder.scan(tmp_path / 'none')
    (tmp_path / 'a').mkdir()
    with pytest.raises(DataError, match=r"class 'a'.*no image"):
        image_folder.scan(tmp_path)
    (tmp_path / 'a' / 'x.PNG').write_bytes(b'x')
    with pytest.raises(DataError, match='at least 2'):
        image_folder.scan(tmp_path)


def test_split_holds_out_a_fifth(tmp_path):
    root = make_folder(tmp_path / 'p') / 'train'
    train, test = folder_layout.load_folders(root)
    assert len(train.samples) == 16
    assert len(test.samples) == 4
    assert not {each.path for each in train.samples} & {each.path for each in test.samples}
    again, _ = folder_layout.load_folders(root)
    assert again.samples == train.samples
    other, _ = folder_layout.load_folders(root, seed=1)
    assert other.samples != train.samples


def test_train_and_test_must_have_the_same_classes(tmp_path):
    root = make_folder(tmp_path / 'p')
    (root / 'test' / 'dark').rename(root / 'test' / 'black')
    with pytest.raises(DataError, match="only in train: 'dark'; only in test: 'black'"):
        folder_layout.load_folders(root)


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


def test_sizes_of_the_cache_while_something_ends(monkeypatch):
    assert cache.cache_sizes() == {}
    (cache.cache_dir() / 'data/deep').mkdir(parents=True)
    (cache.cache_dir() / 'data/deep/a').write_bytes(bytes(7))
    (cache.cache_dir() / 'data/b').write_bytes(bytes(5))
    (cache.cache_dir() / 'models').mkdir()
    (cache.cache_dir() / 'file').write_bytes(bytes(3))
    walk = os.walk
    monkeypatch.setattr(
        os, 'walk', lambda top: [(place, [], [*names, 'gone']) for place, _, names in walk(top)]
    )
    assert cache.cache_sizes() == {'data': 12, 'models': 0}


def test_new_directory_leaves_nothing_on_interrupt(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tasks.write_target(tmp_path / 's', train=1, test=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


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


def test_evaluation():
    scores = np.array([[2.0, 1.0], [0.0, 3.0], [9.0, 0.0]])
    samples = [Sample('a', 0), Sample('b', 1), Sample('c', 1)]
    found = Evaluation(['x', 'y'], samples, softmax(scores))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.confusion.tolist() == [[1, 0], [1, 1]]
    (mistake,) = found.worst()
    assert (mistake.path, mistake.predicted) == ('c', 0)
    assert mistake.probability == pytest.approx(1 / (1 + np.exp(-9)))


def test_architectures_are_the_eight():
    assert set(ARCHITECTURES) == {
        'resnet18', 'resnet34', 'resnet50', 'resnet18_v2', 'mobilenet_v2', 'vgg11',
        'densenet121', 'squeezenet1_1',
    }  # fmt: skip


def test_two_processes_may_draw_the_same_data_set():
    def slower(path, progress):
        path.mkdir(parents=True)
        raise D2LFTError('the other process was faster')

    def unwritable(path, progress):
        atomic.write_atomic(Path('/dev/null/disk'), b'')

    assert datasets._drawn('x', slower, bar=False).is_dir()
    with pytest.raises(D2LFTError, match='disk'):
        datasets._drawn('y', unwritable, bar=False)


def taken(settings):
    return settings.optim.learning_rate, settings.optim.batch_size, settings.data.image_size


def test_settings_take_what_is_missing_from_the_data_set(folder):
    data = datasets.load_data(str(folder), bar=False)
    resolved = Settings.of(learning_rate=0.5).resolve(data)
    assert taken(resolved) == (0.5, 128, 224)
    assert resolved.optim.recipe('scratch').learning_rate == 5
    own = datasets.DataSet('sample', data.train, data.test, 48, 64, 0.002)
    resolved = Settings.of(batch_size=7).resolve(own)
    assert taken(resolved) == (0.002, 7, 48)


def test_the_data_set_of_the_environment(folder, monkeypatch):
    monkeypatch.setenv('D2L_FT_DATA', f' {folder} ')
    data = d2l.load_data(bar=False)
    assert (data.name, data.root, data.source) == (str(folder), str(folder), 'imagenet')
    monkeypatch.setenv('D2L_FT_DATA', '')
    drawn = []
    monkeypatch.setattr(datasets, 'sample_folder', lambda bar: drawn.append(bar) or folder)
    data = d2l.load_data()
    assert (data.name, data.source, drawn) == ('sample', 'sample', [True])


@pytest.mark.parametrize('still', [True, False])
def test_the_still_image_of_an_animated_png_is_decoded(tmp_path, still):
    """OpenCV since 4.12 would give the first picture of the animation."""
    from PIL import Image

    red, green, blue = (Image.new('RGB', (9, 6), colour) for colour in ('red', 'lime', 'blue'))
    first, rest = (red, [green, blue]) if still else (green, [blue])
    path = tmp_path / 'moving.png'
    first.save(path, save_all=True, append_images=rest, default_image=still)
    assert transforms.decode(str(path))[0, 0].tolist() == ([255, 0, 0] if still else [0, 255, 0])
    whole = np.fromfile(path, np.uint8)
    plain = transforms.still_image(whole)
    assert b'acTL' not in plain.tobytes()
    assert b'IEND' in plain.tobytes()
    for cut in (whole[:-20], whole[:-5], whole[:40], whole[:0]):  # what is damaged stays so
        assert transforms.still_image(cut) is cut
    longer = np.append(whole, np.frombuffer(b'more than a chunk', np.uint8))
    assert transforms.still_image(longer).tobytes() == plain.tobytes()
    red.save(path)
    data = np.fromfile(path, np.uint8)
    assert transforms.still_image(data) is data


@pytest.mark.parametrize('count', [1, 2, 3])
def test_the_newest_checkpoints_of_each_net_are_kept(count, tmp_path):
    run = Run(tmp_path, run_config(settings=Settings.of(keep_checkpoints=count)))
    for net in ('fine-tuned', 'scratch'):
        for epoch in range(1, 5):
            run.save(net, {'w': np.zeros(epoch)}, {}, Position(epoch=epoch))
    for net in ('fine-tuned', 'scratch'):
        names = [path.name for path in run.checkpoints(net)]
        assert names == [f'{net}-{epoch:05d}-0000000.safetensors' for epoch in range(5 - count, 5)]
        assert run.load(net)[1].epoch == 4
