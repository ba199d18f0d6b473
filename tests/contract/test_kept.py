"""What is kept changes no result: features of a frozen body, images for the next net, memory."""

import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import make_folder

from d2l_ft.backend.registry import get_backend
from d2l_ft.data import sampling, transforms
from d2l_ft.data.datasets import load_data
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import ModelError, OptionError
from d2l_ft.runs.directory import Run
from d2l_ft.runs.job import train
from d2l_ft.runs.settings import Settings
from d2l_ft.system import hardware
from d2l_ft.training import loaders
from d2l_ft.training.feature_cache import FeatureLoader, features

SIZE = 64


def test_free_memory(monkeypatch, tmp_path):
    free = hardware.free_memory()
    assert free is None or 1 << 20 < free < 1 << 50
    places = {'/proc/meminfo': tmp_path / 'meminfo', '/sys/fs/cgroup': tmp_path}
    monkeypatch.setattr(hardware, 'Path', lambda path: places[path])
    assert hardware.free_memory() is None
    (tmp_path / 'meminfo').write_text('MemTotal: 9 kB\nMemAvailable: 4 kB\n')
    assert hardware.free_memory() == 4096
    (tmp_path / 'memory.max').write_text('max\n')
    assert hardware.free_memory() == 4096
    (tmp_path / 'memory.max').write_text('3000\n')
    (tmp_path / 'memory.current').write_text('1000\n')
    assert hardware.free_memory() == 2000


def frozen(backend, seed=0):
    net = backend.build_net('resnet18', 2, seed=seed)
    backend.freeze(net)
    return backend.place(net, backend.devices('cpu'))


def test_the_head_makes_logits_of_features(backend, folder):
    samples, placed = load_folders(folder)[0].samples[:7], frozen(backend)
    found = backend.features(placed, backend.loader(samples, Pipeline(SIZE), 3))
    assert found.shape[0] == 7
    assert found.dtype == np.float32
    head = backend.place(backend.head(placed.net))
    batch = backend.to_batch(found, np.zeros(7, dtype=np.int64))
    (whole,) = list(backend.loader(samples, Pipeline(SIZE), 7))
    expected = backend.logits(placed, whole)
    np.testing.assert_allclose(backend.logits(head, batch), expected, atol=1e-6, rtol=1e-5)


def test_features_on_two_devices(framework, folder):
    samples, placed = load_folders(folder)[0].samples[:5], frozen(framework)
    one = framework.features(placed, framework.loader(samples, Pipeline(SIZE), 5))
    placed = framework.place(placed.net, framework.devices('cpu:2'))
    two = framework.features(placed, framework.loader(samples, Pipeline(SIZE), 5))
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=1e-5)


def test_nets_whose_features_cannot_be_kept(framework):
    for arch in ('mobilenet_v2', 'squeezenet1_1'):
        with pytest.raises(ModelError, match='dropout'):
            framework.features(framework.place(framework.build_net(arch, 2)), [])


def settings(folder, **changes):
    return Settings.of(
        data=str(folder), source=str(folder / 'source.safetensors'), freeze=True, num_epochs=4,
        batch_size=8, image_size=SIZE, learning_rate=0.01, momentum=0.9,
        precision='float32', devices='cpu',
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize('kind', [{'augment': False}, {'views': 3}], ids=['centre', 'views'])
def test_a_head_trained_on_features_is_the_same(framework, folder, tmp_path, kind):
    from safetensors.numpy import save_file

    source = framework.get_state(framework.place(framework.build_net('resnet18', 5, seed=8)))
    save_file(source, str(folder / 'source.safetensors'))
    found, said = [], []
    for name, options in (('plain', {}), ('kept', {'cache_features': True})):
        run, _ = train(framework, settings(folder, **kind, **options), tmp_path / name,
                       bar=False, say=said.append)  # fmt: skip
        found.append((run.load('fine-tuned')[0].model, run.metrics()))
    (plain, history), (kept, again) = found
    for name, array in plain.items():
        np.testing.assert_allclose(kept[name], array, atol=2e-6, err_msg=name)
        if not name.startswith('fc.'):
            np.testing.assert_array_equal(kept[name], source[name])
    assert not np.allclose(plain['fc.weight'], plain['fc.weight'] * 0, atol=1e-3)
    for one, two in zip(history, again, strict=True):
        assert one.train_loss == pytest.approx(two.train_loss, rel=1e-5)
        assert one.test_acc == two.test_acc
    assert sum('its features are kept' in line for line in said) == 1


def test_a_resumed_run_reads_its_features_from_the_disk(framework, folder, tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    save_file(framework.get_state(framework.place(framework.build_net('resnet18', 5))),
              str(folder / 'source.safetensors'))  # fmt: skip
    chosen = settings(folder, views=2, cache_features=True)
    train(framework, chosen, tmp_path / 'run', bar=False, say=str)
    whole = Run.open(tmp_path / 'run').load('fine-tuned')[0].model
    half = tmp_path / 'half'
    train(framework, chosen.replace(num_epochs=2), half, bar=False, say=str)
    monkeypatch.setattr(framework, 'features', None)  # calling it would fail
    train(framework, chosen, half, resume=True, bar=False, say=str)
    for name, array in Run.open(half).load('fine-tuned')[0].model.items():
        np.testing.assert_array_equal(array, whole[name])


@pytest.mark.parametrize('kind', [{'freeze': False}, {'views': 2, 'cache_features': True}],
                         ids=['images', 'features'])  # fmt: skip
def test_a_training_does_not_depend_on_who_loads(framework, folder, tmp_path, monkeypatch, kind):
    from safetensors.numpy import save_file

    save_file(framework.get_state(framework.place(framework.build_net('resnet18', 5))),
              str(folder / 'source.safetensors'))  # fmt: skip
    found = []
    for name, options, as_on_gpu in (
        ('alone', {'workers': 0, 'image_cache': 0}, False),
        ('workers and a device', {'workers': 2}, True),
    ):
        # the devices are CPUs, which then get the batches that a GPU would get
        monkeypatch.setattr(loaders, 'on_gpu', lambda *_, answer=as_on_gpu: answer)
        monkeypatch.setenv('D2L_FT_HOME', str(tmp_path / f'home of {name}'))
        chosen = settings(folder).replace(num_epochs=2, **kind, **options)
        run, _ = train(framework, chosen, tmp_path / name, bar=False, say=str)
        found.append((run.load('fine-tuned')[0].model, run.metrics()))
    (alone, history), (together, again) = found
    assert [each.train_loss for each in history] == [each.train_loss for each in again]
    assert [each.test_acc for each in history] == [each.test_acc for each in again]
    for name, array in alone.items():
        np.testing.assert_array_equal(together[name], array, err_msg=name)


def count_passes(backend, monkeypatch):
    """Return a list that grows whenever the body is run over a part."""
    passes, compute = [], backend.features
    monkeypatch.setattr(backend, 'features', lambda *args: passes.append(1) or compute(*args))
    return passes


def test_features_are_kept_under_all_that_they_depend_on(backend, folder, tmp_path, monkeypatch):
    samples, placed = load_folders(folder)[0].samples, frozen(backend)
    passes, pipeline = count_passes(backend, monkeypatch), Pipeline(SIZE, train=True, views=2)

    def passed(samples=samples, pipeline=pipeline, how='float32'):
        before = len(passes)
        found = features(backend, placed, 'resnet18', samples, pipeline, how, bar=False)
        views = pipeline.views if pipeline.train else 1
        assert found.shape[:2] == (views, len(samples))
        return len(passes) - before

    assert passed() == 2
    assert passed() == 0
    assert passed(pipeline=Pipeline(SIZE)) == 1
    assert passed(pipeline=Pipeline(SIZE, train=True, views=3)) == 3
    assert passed(pipeline=Pipeline(SIZE, train=True, views=2, seed=1)) == 2
    assert passed(how='bfloat16') == 2
    assert passed(samples=samples[::-1]) == 2
    elsewhere = shutil.copytree(folder, tmp_path / 'copy')
    assert passed(samples=load_folders(elsewhere)[0].samples) == 0  # the content counts
    shutil.copy(samples[1].path, load_folders(elsewhere)[0].samples[0].path)
    assert passed(samples=load_folders(elsewhere)[0].samples) == 2
    state = backend.get_state(placed)
    head, body = 'fc.bias', next(name for name in state if not name.startswith('fc.'))
    backend.set_state(placed, state | {head: state[head] + 1})
    assert passed() == 0  # the head is what is trained
    backend.set_state(placed, state | {body: state[body] + 1})
    assert passed() == 2


@pytest.mark.parametrize('damage', [lambda data: data[:-9], lambda data: data[:-1] + b'x', None])
def test_damaged_features_are_computed_again(backend, folder, tmp_path, monkeypatch, damage):
    samples, placed = load_folders(folder)[0].samples, frozen(backend)
    first = features(backend, placed, 'resnet18', samples, Pipeline(SIZE), 'float32', bar=False)
    (kept,) = (tmp_path / 'cache/features').glob('*.safetensors')
    kept.write_bytes(damage(kept.read_bytes()) if damage else b'')
    passes = count_passes(backend, monkeypatch)
    again = features(backend, placed, 'resnet18', samples, Pipeline(SIZE), 'float32', bar=False)
    assert len(passes) == 1
    np.testing.assert_array_equal(again, first)


def test_batches_of_features_have_the_order_of_the_images(backend, folder):
    samples = load_folders(folder)[0].samples
    kept = np.arange(2 * 20 * 3, dtype=np.float32).reshape(2, 20, 3)
    loader = FeatureLoader(backend, kept, samples, 8, shuffle=True, seed=5)
    assert len(loader) == 3
    for epoch, start in ((0, 0), (3, 1)):
        order = sampling.epoch_order(20, 5, epoch, shuffle=True)[8 * start :]
        loader.set_epoch(epoch, start)
        pairs = list(loader)
        labels = np.concatenate([np.array(to_numpy(each)) for _, each in pairs])
        np.testing.assert_array_equal(labels, [samples[i].label for i in order])
        found = np.concatenate([to_numpy(each) for each, _ in pairs])
        np.testing.assert_array_equal(found, kept[epoch % 2][order])


def to_numpy(array):
    return array.asnumpy() if hasattr(array, 'asnumpy') else np.asarray(array)


@pytest.mark.parametrize(('changes', 'text'), [
    ({'cache_features': True, 'augment': False}, '`cache_features` needs `freeze`'),
    ({'cache_features': True, 'freeze': True}, '`augment=False`, or `views=4`'),
    ({'augment': False, 'views': 2}, 'leave out `views`'),
])  # fmt: skip
def test_options_that_contradict_each_other(changes, text):
    with pytest.raises(OptionError, match=text):
        Settings.of(**changes).check()


@pytest.mark.parametrize('last', [True, False])
def test_the_layout_is_the_one_asked_for(backend, tmp_path, monkeypatch, last):
    folder = make_folder(tmp_path / 'pictures', train=4, test=2)
    asked, place = [], backend.place

    def watched(net, devices, precision, *, channels_last):
        asked.append((precision, channels_last))
        return place(net, devices, precision, channels_last=channels_last)

    monkeypatch.setattr(backend, 'place', watched)
    chosen = Settings.of(data=str(folder), source='none', num_epochs=1, batch_size=8, image_size=32,
                      devices='cpu', precision='float32', channels_last=last)  # fmt: skip
    train(backend, chosen, tmp_path / 'run', bar=False, say=str)
    assert asked[0] == ('float32', last)


def test_the_twin_decodes_nothing_again(framework, tmp_path, monkeypatch):
    """Both nets of a run share the cache; the report's predictions too."""
    folder = make_folder(tmp_path / 'pictures', train=4, test=2)
    decoded, decode = [], transforms.decode
    monkeypatch.setattr(transforms, 'decode', lambda path: decoded.append(path) or decode(path))
    assert load_data(str(folder), bar=False).image_size == 224
    chosen = Settings.of(data=str(folder), source='none', num_epochs=2, batch_size=4, image_size=32,
                      devices='cpu')  # fmt: skip
    train(framework, chosen, tmp_path / 'run', bar=False, say=str)
    assert sorted(decoded) == sorted(set(decoded))
    assert len(decoded) == 12
    decoded.clear()
    train(framework, chosen.replace(image_cache=0), tmp_path / 'without',
          bar=False, say=str)  # fmt: skip
    assert len(decoded) == 2 * 12 + 4


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='another C library hands memory back')
def test_freed_memory_is_kept():
    """How much of 64 freed MiB the process still has, with the call and without."""
    code = (
        'import sys, ctypes\n'
        'from d2l_ft.system.hardware import keep_freed_memory\n'
        'def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096\n'
        'if sys.argv[1] == "keep": assert keep_freed_memory()\n'
        'libc = ctypes.CDLL(None)\n'
        'libc.malloc.restype = ctypes.c_void_p\n'
        'before, place = resident(), libc.malloc(1 << 26)\n'
        'ctypes.memset(ctypes.c_void_p(place), 1, 1 << 26)\n'
        'libc.free(ctypes.c_void_p(place))\n'
        'print((resident() - before) >> 20)\n'
    )
    kept = [
        int(subprocess.run([sys.executable, '-c', code, mode], capture_output=True, text=True,
                           check=True).stdout)
        for mode in ('keep', 'return')
    ]  # fmt: skip
    assert kept[0] >= 60
    assert kept[1] <= 8


def test_keeping_memory_changes_no_bit(framework, tmp_path):
    folder, found = make_folder(tmp_path / 'pictures', train=4, test=2), []
    for keep in (False, True):  # not the other way: it cannot be undone in a process
        chosen = Settings.of(data=str(folder), source='none', num_epochs=2, batch_size=4,
                          image_size=64, devices='cpu', keep_memory=keep)  # fmt: skip
        run, _ = train(framework, chosen, tmp_path / str(keep), bar=False, say=str)
        found.append(run.load('scratch')[0].model)
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


@pytest.mark.parametrize('keep', [True, False])
def test_memory_is_kept_if_asked_for(backend, tmp_path, monkeypatch, keep):
    calls = []
    monkeypatch.setattr('d2l_ft.runs.job.keep_freed_memory', lambda: calls.append(1))
    folder = make_folder(tmp_path / 'pictures', train=4, test=2)
    chosen = Settings.of(data=str(folder), source='none', num_epochs=1, batch_size=8, image_size=32,
                      devices='cpu', keep_memory=keep)  # fmt: skip
    train(backend, chosen, tmp_path / 'run', bar=False, say=str)
    assert len(calls) == keep


@pytest.mark.needs('mxnet')
def test_a_gluon_net_that_does_not_end_with_its_head_is_refused():
    import mxnet as mx
    from mxnet.gluon import HybridBlock, nn

    class Net(HybridBlock):
        def __init__(self, *tail):
            super().__init__()
            self.features, self.output = nn.HybridSequential(), nn.HybridSequential()
            self.features.add(nn.Conv2D(4, 3), nn.GlobalAvgPool2D())
            self.output.add(nn.Dense(2), *tail)

        def hybrid_forward(self, F, x):
            return self.output(self.features(x))

    backend, images = get_backend('mxnet'), mx.nd.ones((2, 3, 8, 8))
    nets = Net(), Net(nn.Activation('relu'))
    for net in nets:
        net.initialize()
        net.hybridize()
        net(images)
    batches = [(images, mx.nd.zeros(2))]
    assert backend.features(backend.place(nets[0]), batches).shape == (2, 4)
    with pytest.raises(ModelError, match='does not end with a Dense'):
        backend.features(backend.place(nets[1]), batches)
