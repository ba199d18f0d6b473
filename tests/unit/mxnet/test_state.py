"""The MXNet backend's states of nets and trainers."""

import d2l_ft_mxnet as backend
import d2l_ft_mxnet.data
import numpy as np
import pytest
from mxnet import gluon

from d2l_ft.errors import ModelError
from d2l_ft.optim.recipe import Recipe

from .nets import TWO, equal_states, random_batch, shaken, tiny

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.usefixtures('arrays')]


def test_a_users_zoo_net_has_the_canonical_state(arrays):
    zoo = gluon.model_zoo.vision.resnet18_v2(classes=2)
    zoo.initialize()
    with pytest.raises(ModelError, match='run a batch through the net first'):
        backend.get_state(backend.place(zoo))
    zoo(arrays.zeros((1, 3, 32, 32)))
    net = backend.build_net('resnet18_v2', 2)
    placed, theirs = backend.place(net), backend.place(zoo)
    backend.set_state(theirs, shaken(backend.get_state(placed)))
    backend.set_state(placed, backend.get_state(theirs))
    batch = random_batch(dtype='float32')
    np.testing.assert_allclose(
        backend.logits(theirs, batch), backend.logits(placed, batch), rtol=1e-5
    )
    assert backend.head(zoo) is zoo.output


@pytest.mark.parametrize('places', [TWO[:1], TWO])
def test_resume_is_exact(places):
    recipe = Recipe(0.1, momentum=0.9)
    batches = [random_batch(size, classes=3) for size in (4, 3, 1, 4)]
    net = tiny(norm=True, places=places)
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, recipe)
    assert backend.get_trainer_state(placed, trainer) == {}
    for batch in batches[:2]:
        backend.train_step(placed, trainer, batch)
    state, memory = backend.get_state(placed), backend.get_trainer_state(placed, trainer)
    assert set(memory) == {name for name in state if 'running' not in name}
    for batch in batches[2:]:
        backend.train_step(placed, trainer, batch)
    again = backend.place(tiny(norm=True, places=places))
    backend.set_state(again, state)
    second = backend.build_trainer(again, recipe)
    backend.set_trainer_state(again, second, memory)
    assert equal_states(backend.get_trainer_state(again, second), memory)
    for batch in batches[2:]:
        backend.train_step(again, second, batch)
    assert equal_states(backend.get_state(again), backend.get_state(placed))
    assert equal_states(
        backend.get_trainer_state(again, second), backend.get_trainer_state(placed, trainer)
    )


def test_velocity_is_what_the_step_took_and_can_be_forgotten():
    net, batch = tiny(), random_batch(classes=3)
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.1, momentum=0.9))
    before = backend.get_state(placed)
    backend.train_step(placed, trainer, batch)
    after, memory = backend.get_state(placed), backend.get_trainer_state(placed, trainer)
    for name, velocity in memory.items():
        np.testing.assert_allclose(before[name] - after[name], velocity, rtol=1e-9, atol=1e-12)
    backend.set_trainer_state(placed, trainer, {})
    assert backend.get_trainer_state(placed, trainer) == {}
    backend.set_state(placed, before)
    backend.train_step(placed, trainer, batch)
    assert equal_states(backend.get_state(placed), after)


def test_the_state_of_a_users_trainer_on_the_kvstore():
    net = tiny(places=TWO)
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.1, 'momentum': 0.5})
    placed = backend.place(net)
    backend.train_step(placed, trainer, random_batch(classes=3))
    memory = backend.get_trainer_state(placed, trainer)
    assert set(memory) == set(backend.get_state(placed))
    doubled = {name: 2 * array for name, array in memory.items()}
    backend.set_trainer_state(placed, trainer, doubled)
    assert equal_states(backend.get_trainer_state(placed, trainer), doubled)
    before = backend.get_state(placed)
    trainer.set_learning_rate(1e-30)
    backend.train_step(placed, trainer, random_batch(classes=3))
    np.testing.assert_allclose(
        before['fc.weight'] - backend.get_state(placed)['fc.weight'], memory['fc.weight'], rtol=1e-9
    )


def test_set_state_is_all_or_nothing():
    net = tiny(norm=True, places=TWO)
    placed = backend.place(net)
    before = backend.get_state(placed)
    for change in ({'fc.bias': np.zeros(4)}, {'extra': np.zeros(1)}):
        with pytest.raises(ModelError):
            backend.set_state(placed, {name: array + 1 for name, array in before.items()} | change)
    assert equal_states(backend.get_state(placed), before)
    moved = {name: array + 1 for name, array in before.items()}
    backend.set_state(placed, moved)
    for parameter, name in ((net.fc.bias, 'fc.bias'), (net.norm.gamma, 'norm.weight')):
        assert all(np.array_equal(data.asnumpy(), moved[name]) for data in parameter.list_data())
    backend.get_state(placed)['fc.bias'][:] = 7
    assert equal_states(backend.get_state(placed), moved)
