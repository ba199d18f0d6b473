"""What every backend promises, run once over each of them."""

import inspect

import numpy as np
import pytest
from conftest import make_folder

from d2l_ft.backend.protocol import Backend, Sums
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DeviceError, ModelError
from d2l_ft.optim.recipe import Recipe
from d2l_ft.runs.job import train
from d2l_ft.runs.settings import Settings
from d2l_ft.system.hardware import has_bfloat16
from d2l_ft.training.evaluation import predict, softmax

SIZE = 64
RECIPE = Recipe(0.01, momentum=0.9)


def functions():
    """Return the functions of the Protocol."""
    return {
        name: each for name, each in inspect.getmembers(Backend)
        if inspect.isfunction(each) and not name.startswith('_')
    }  # fmt: skip


def random_batch(backend, count=4, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.normal(size=(count, 3, SIZE, SIZE)) + 2 * labels[:, None, None, None]
    return backend.to_batch(images.astype(np.float32), labels)


def new(backend, request='cpu', **options):
    net = backend.build_net('resnet18', 2, **options)
    return backend.place(net, backend.devices(request))


def same(a, b):
    """Tell whether two states are equal to the bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_same_can_fail():
    one = {'w': np.zeros(2)}
    assert same(one, {'w': np.zeros(2)})
    assert not same(one, {'w': np.ones(2)})
    assert not same(one, {'v': np.zeros(2)})


@pytest.mark.parametrize('name', functions())
def test_signature_is_the_protocols(backend, name):
    def parameters(function, skip=0):
        listed = list(inspect.signature(function).parameters.values())[skip:]
        return [(each.name, each.kind, each.default) for each in listed]

    assert parameters(getattr(backend, name)) == parameters(functions()[name], skip=1)


def test_names(backend):
    assert isinstance(backend.NAME, str)
    assert isinstance(backend.FRAMEWORK, str)
    assert backend.threads() >= 1


def test_devices(backend):
    assert len(backend.devices('cpu')) == 1
    assert len(backend.devices('cpu:2')) == 2
    assert backend.devices()
    with pytest.raises(DeviceError, match='cpu:2'):
        backend.devices('cpus')
    with pytest.raises(DeviceError):
        backend.devices('gpu:97')


def test_loader_gives_the_pipelines_floats(backend, folder):
    train, _ = load_folders(folder)
    pipeline = Pipeline(SIZE, train=True, seed=3)
    loader = backend.loader(train.samples, pipeline, 8, shuffle=True, seed=3)
    assert len(loader) == 3
    loader.set_epoch(2)
    seen = 0
    for images, labels in loader:
        images, labels = to_numpy(images), to_numpy(labels)
        assert images.shape == (len(labels), 3, SIZE, SIZE)
        assert images.dtype == np.float32
        seen += len(labels)
    assert seen == 20


def to_numpy(tensor):
    return tensor.asnumpy() if hasattr(tensor, 'asnumpy') else np.asarray(tensor)


def test_epoch_can_start_in_the_middle(backend, folder):
    train, _ = load_folders(folder)
    loader = backend.loader(train.samples, Pipeline(SIZE, train=True), 8, shuffle=True)
    loader.set_epoch(1)
    whole = [to_numpy(images) for images, _ in loader]
    loader.set_epoch(1, start=2)
    (last,) = [to_numpy(images) for images, _ in loader]
    assert np.array_equal(last, whole[2])
    loader.set_epoch(0)
    assert not np.array_equal(to_numpy(next(iter(loader))[0]), whole[0])


def test_step_moves_the_net_and_counts(backend):
    placed = new(backend)
    trainer = backend.build_trainer(placed, RECIPE)
    before = backend.get_state(placed)
    sums = backend.train_step(placed, trainer, random_batch(backend))
    assert isinstance(sums, Sums)
    assert sums.examples == 4
    assert 0 < float(sums.loss) < 100
    assert 0 <= float(sums.correct) <= 4
    after = backend.get_state(placed)
    assert any(not np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize('count', [1, 2, 5])
def test_uneven_and_small_batches_on_two_devices(backend, count):
    placed = new(backend, 'cpu:2')
    trainer = backend.build_trainer(placed, RECIPE)
    for _ in range(2):
        sums = backend.train_step(placed, trainer, random_batch(backend, count))
        assert sums.examples == count
        assert np.isfinite(float(sums.loss))
    assert all(np.isfinite(array).all() for array in backend.get_state(placed).values())


def test_training_learns(backend):
    placed = new(backend)
    trainer = backend.build_trainer(placed, Recipe(0.02))
    batch = random_batch(backend, 8)
    losses = [float(backend.train_step(placed, trainer, batch).loss) for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


def test_evaluate_agrees_with_logits(backend):
    placed = new(backend)
    batches = [random_batch(backend, count, seed=count) for count in (4, 3)]
    scores = np.concatenate([backend.logits(placed, batch) for batch in batches])
    labels = np.concatenate([to_numpy(batch[1]) for batch in batches])
    sums = backend.evaluate(placed, batches)
    logs = scores - scores.max(1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    assert scores.shape == (7, 2)
    assert float(sums.loss) == pytest.approx(-logs[np.arange(7), labels].sum(), rel=1e-4)
    assert float(sums.correct) == (scores.argmax(1) == labels).sum()


def test_prediction_takes_the_images_of_the_loader(backend, tmp_path):
    """To the bit what the crops give by hand, with any workers and from a cache."""
    samples = load_folders(make_folder(tmp_path / 'more', train=35, test=1))[0].samples
    pipeline, placed, scores = Pipeline(SIZE), new(backend), []
    for first in range(0, len(samples), 64):
        crops = np.stack([pipeline.crop(each.path) for each in samples[first : first + 64]])
        batch = backend.to_batch(pipeline.to_float(crops), np.zeros(len(crops), dtype=np.int64))
        scores.append(softmax(backend.logits(placed, batch)))
    wanted, cache = np.concatenate(scores), ImageCache(1 << 26)
    assert wanted.shape == (70, 2)
    assert len(np.unique(wanted[:, 0])) > 60
    for options in ({}, {'workers': 2}, {'cache': cache}, {'cache': cache}):
        found = predict(backend, placed, samples, pipeline, bar=False, **options)
        np.testing.assert_array_equal(found, wanted)
    assert predict(backend, placed, [], pipeline).shape == (0, 0)


def test_predict_is_the_logits_of_every_batch(backend):
    placed = new(backend, 'cpu:2')
    batches = [random_batch(backend, count, seed=count) for count in (4, 3)]
    wanted = np.concatenate([backend.logits(placed, batch) for batch in batches])
    np.testing.assert_array_equal(backend.predict(placed, batches), wanted)


def test_the_main_memory_is_no_gpu(backend):
    assert [backend.is_gpu(device) for device in backend.devices('cpu:2')] == [False, False]


def test_state_round_trip_and_all_or_nothing(backend):
    placed, other = new(backend, seed=1), new(backend, seed=2)
    state = backend.get_state(placed)
    assert not same(state, backend.get_state(other))
    backend.set_state(other, state)
    assert same(state, backend.get_state(other))
    broken = {name: array + 1 for name, array in state.items()}
    broken.pop(sorted(broken)[-1])
    with pytest.raises(ModelError):
        backend.set_state(other, broken)
    assert same(state, backend.get_state(other))


def test_state_is_a_copy(backend):
    placed = new(backend)
    state = backend.get_state(placed)
    kept = {name: array.copy() for name, array in state.items()}
    backend.train_step(placed, backend.build_trainer(placed, RECIPE), random_batch(backend))
    assert same(state, kept)


def test_source_is_copied_and_the_head_is_new(backend):
    wide = backend.place(backend.build_net('resnet18', 10, seed=1))
    source = {name: array + 0.01 for name, array in backend.get_state(wide).items()}
    kept = {name: array.copy() for name, array in source.items()}
    for array in source.values():
        array.flags.writeable = False
    placed = new(backend, source=source)
    state = backend.get_state(placed)
    body = [name for name in state if not name.startswith('fc.')]
    assert body
    assert all(np.array_equal(state[name], source[name]) for name in body)
    assert state['fc.weight'].shape[0] == 2
    assert not state['fc.bias'].any()
    backend.train_step(placed, backend.build_trainer(placed, RECIPE), random_batch(backend))
    assert same(source, kept)
    with pytest.raises(ModelError):
        backend.build_net('resnet18', 2, {'fc.weight': source['fc.weight']})


def test_frozen_body_keeps_its_bits(backend):
    net = backend.build_net('resnet18', 2)
    backend.freeze(net)
    placed = backend.place(net, backend.devices('cpu'))
    before = backend.get_state(placed)
    trainer = backend.build_trainer(placed, RECIPE)
    for _ in range(2):
        backend.train_step(placed, trainer, random_batch(backend))
    after = backend.get_state(placed)
    moved = {name for name in after if not np.array_equal(before[name], after[name])}
    assert moved == {'fc.weight', 'fc.bias'}


def test_resume_is_exact(backend):
    whole = new(backend)
    trainer = backend.build_trainer(whole, RECIPE)
    batches = [random_batch(backend, seed=number) for number in range(4)]
    for batch in batches[:2]:
        backend.train_step(whole, trainer, batch)
    state, memory = backend.get_state(whole), backend.get_trainer_state(whole, trainer)
    assert memory
    again = new(backend, seed=5)
    second = backend.build_trainer(again, RECIPE)
    backend.set_state(again, state)
    backend.set_trainer_state(again, second, memory)
    for batch in batches[2:]:
        backend.train_step(whole, trainer, batch)
        backend.train_step(again, second, batch)
    assert same(backend.get_state(whole), backend.get_state(again))


def test_a_new_rate_is_that_of_a_new_trainer_with_the_old_memory(backend):
    """To the bit, and for the head's multiple too."""
    states = []
    for renew in (False, True):
        placed = new(backend)
        trainer = backend.build_trainer(placed, RECIPE)
        for number, rate in enumerate((0.01, 0.003, 0.0007)):
            if renew:
                memory = backend.get_trainer_state(placed, trainer)
                trainer = backend.build_trainer(placed, RECIPE.at_rate(rate))
                backend.set_trainer_state(placed, trainer, memory)
            else:
                backend.set_rate(trainer, rate)
            backend.train_step(placed, trainer, random_batch(backend, seed=number))
        states.append(backend.get_state(placed))
    assert same(*states)
    placed = new(backend)
    trainer = backend.build_trainer(placed, RECIPE)
    for number in range(3):
        backend.train_step(placed, trainer, random_batch(backend, seed=number))
    assert not same(states[0], backend.get_state(placed))


def test_no_momentum_means_no_memory(backend):
    placed = new(backend)
    trainer = backend.build_trainer(placed, Recipe(0.01))
    backend.train_step(placed, trainer, random_batch(backend))
    assert backend.get_trainer_state(placed, trainer) == {}
    backend.set_trainer_state(placed, trainer, {})


def test_sum_is_the_mean_at_another_rate(backend):
    batch = random_batch(backend)
    recipe = Recipe(0.001, weight_decay=0.04, reduction='sum')
    states = []
    for each in (recipe, recipe.in_mean_terms(4)):
        placed = new(backend)
        trainer = backend.build_trainer(placed, each)
        backend.train_step(placed, trainer, batch, None, each.reduction)
        states.append(backend.get_state(placed))
    for name, array in states[0].items():
        assert np.allclose(array, states[1][name], atol=2e-4), name


def test_head_is_the_frameworks_layer(backend):
    net = backend.build_net('resnet18', 3)
    layer = backend.head(net)
    assert layer is net.fc
    with pytest.raises(ModelError):
        backend.head(object())


def test_precision(backend):
    net = backend.build_net('resnet18', 2)
    for precision in ('float32', 'auto'):
        placed = backend.place(net, backend.devices('cpu'), precision)
        assert placed.net is net
        assert list(placed.devices) == backend.devices('cpu')
        assert placed.precision in ('float32', 'bfloat16' if precision == 'auto' else 'float32')


def test_a_net_is_placed_where_it_lies(backend):
    placed = backend.place(backend.build_net('resnet18', 2))
    assert list(placed.devices) == backend.devices('cpu')
    assert placed.precision == 'float32'


def test_another_placing_changes_no_state(backend):
    one = new(backend, 'cpu:2')
    for count in (4, 3):
        backend.train_step(one, backend.build_trainer(one, RECIPE), random_batch(backend, count))
    state = backend.get_state(one)
    again = backend.place(one.net, backend.devices('cpu'))
    assert same(backend.get_state(again), state)
    batch = random_batch(backend)
    backend.train_step(again, backend.build_trainer(again, RECIPE), batch)
    assert not same(backend.get_state(again), state)


@pytest.mark.skipif(not has_bfloat16(), reason='this processor has no instructions for bfloat16')
def test_a_run_in_bfloat16_resumes_exactly(framework, folder, tmp_path):
    chosen = Settings.of(
        data=str(folder), source='none', num_epochs=2, batch_size=8, image_size=64,
        learning_rate=0.01, precision='bfloat16', devices='cpu',
    )  # fmt: skip
    said: list[str] = []
    whole, _ = train(framework, chosen, tmp_path / 'whole', bar=False, say=said.append)
    assert any(line.startswith(f'{framework.NAME}, bfloat16, on ') for line in said)
    half = tmp_path / 'half'
    train(framework, chosen.replace(num_epochs=1), half, bar=False, say=str)
    again, _ = train(framework, chosen, half, resume=True, bar=False, say=str)
    strict, _ = train(framework, chosen.replace(precision='float32'), tmp_path / 'strict',
                      bar=False, say=str)  # fmt: skip
    found, resumed, other = (run.load('scratch')[0].model for run in (whole, again, strict))
    for name, array in found.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)
    assert any(not np.array_equal(other[name], array) for name, array in found.items())
