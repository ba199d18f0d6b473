"""The PyTorch backend's step and evaluation."""

import d2l_ft_pytorch as backend
import numpy as np
import pytest
import torch
from d2l_ft_pytorch.placement import replicas
from torch import nn
from torch.nn import functional as F

from d2l_ft.optim.recipe import Recipe

from .nets import TWO, random_batch, shaken, tiny

pytestmark = pytest.mark.needs('mxnet', 'pytorch')


def gradients(net: nn.Module) -> list[np.ndarray]:
    return [p.grad.numpy().copy() for p in net.parameters() if p.grad is not None]


def test_head_steps_ten_times_as_far_for_equal_gradients():
    net = tiny()
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.01, weight_decay=0))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.step()
    for name, parameter in net.named_parameters():
        step = before[name] - parameter.detach()
        expected = 0.1 if name.startswith('fc.') else 0.01
        torch.testing.assert_close(step, torch.full_like(step, expected), rtol=1e-12, atol=1e-14)


def test_one_group_when_the_multiplier_is_one():
    trainer = backend.build_trainer(backend.place(tiny()), Recipe(0.01, head_lr_mult=1))
    assert len(trainer.param_groups) == 1


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_weight_decay_is_added_after_the_mean(momentum):
    net = tiny()
    recipe = Recipe(0.01, head_lr_mult=3, weight_decay=0.25, momentum=momentum)
    placed = backend.place(net)
    before = backend.get_state(placed)
    backend.train_step(placed, backend.build_trainer(placed, recipe), random_batch(4))
    for name, parameter in net.named_parameters():
        rate = 0.01 * 3 if name.startswith('fc.') else 0.01
        wanted = before[name] - rate * (parameter.grad.numpy() + 0.25 * before[name])
        np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=1e-13, atol=1e-16)


def test_momentum_after_a_change_of_rate_is_gluons():
    net = tiny()
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.1, 1, weight_decay=0.01, momentum=0.9))
    weight, draws = net.fc.weight, np.random.default_rng(3)
    w, velocity = weight.detach().numpy().copy(), np.zeros(weight.shape)
    for rate in (0.1, 0.1, 0.01, 0.05):
        g = draws.normal(size=weight.shape)
        velocity = 0.9 * velocity + rate * (g + 0.01 * w)
        w = w - velocity
        trainer.param_groups[0]['lr'] = rate
        weight.grad = torch.from_numpy(g)
        trainer.step()
        np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-12)
        kept = backend.get_trainer_state(placed, trainer)
        np.testing.assert_allclose(kept['fc.weight'], velocity, rtol=1e-12)


def test_sum_is_the_mean_times_the_batch():
    net, batch = tiny(), random_batch(4, classes=3)
    trainer = torch.optim.SGD(net.parameters(), lr=0.0)
    placed = backend.place(net)
    mean = backend.train_step(placed, trainer, batch) and gradients(net)
    total = backend.train_step(placed, trainer, batch, reduction='sum') and gradients(net)
    for one, other in zip(mean, total, strict=True):
        np.testing.assert_allclose(other, 4 * one, rtol=1e-12)


@pytest.mark.parametrize('count', [5, 4, 1])
@pytest.mark.parametrize('arch', ['tiny', 'frozen resnet18'])
def test_two_replicas_equal_one_device(arch, count):
    found = []
    for devices in (TWO[:1], TWO):
        net = tiny() if arch == 'tiny' else shaken(backend.build_net('resnet18', 3)).double()
        if arch != 'tiny':
            backend.freeze(net)
        placed = backend.place(net, devices)
        trainer = backend.build_trainer(placed, Recipe(0.1, momentum=0.9))
        sums = [backend.train_step(placed, trainer, random_batch(count, classes=3)) for _ in '12']
        state = backend.get_state(placed)
        found.append((gradients(net), state, float(sums[1].loss), sums[1].examples))
    (grads, state, loss, examples), (other_grads, other_state, other_loss, other_examples) = found
    assert examples == other_examples == count
    assert loss == pytest.approx(other_loss, rel=1e-12)
    for one, other in zip(grads, other_grads, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-14)
    for name in state:
        np.testing.assert_allclose(other_state[name], state[name], rtol=1e-11, atol=1e-13)


def test_shares_are_split_and_loads():
    net, seen = tiny(), []
    placed = backend.place(net, TWO * 2)
    for replica in replicas(placed):
        replica.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    backend.logits(placed, random_batch(11))
    assert seen == [3, 3, 3, 2]


@pytest.mark.parametrize(
    'loss', [nn.CrossEntropyLoss(reduction=each) for each in ('none', 'mean', 'sum')]
)
def test_own_net_optimizer_and_loss(loss):
    net, batch = tiny(norm=True), random_batch(5, classes=3)
    wanted = F.cross_entropy(net(batch[0]), batch[1])
    expected = torch.autograd.grad(wanted, list(net.parameters()))
    wanted = float(wanted.detach())
    trainer = torch.optim.Adam(net.parameters(), lr=0.01)
    placed = backend.place(net)
    before = backend.get_state(placed)
    sums = backend.train_step(placed, trainer, batch, loss)
    assert float(sums.loss) == pytest.approx(5 * wanted, rel=1e-12)
    assert not sums.loss.requires_grad
    for one, other in zip(gradients(net), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-10, atol=1e-14)
    assert not np.array_equal(before['conv.weight'], backend.get_state(placed)['conv.weight'])


def test_evaluate_sums_over_the_loader_and_restores_modes():
    net = tiny(norm=True)
    placed = backend.place(net, TWO)
    net.train()
    net.norm.eval()
    images, labels = random_batch(5, classes=3)
    sums = backend.evaluate(placed, [(images[:3], labels[:3]), (images[3:], labels[3:])])
    logits = torch.from_numpy(backend.logits(placed, (images, labels)))
    assert sums.examples == 5
    assert float(sums.loss) == pytest.approx(float(F.cross_entropy(logits, labels) * 5), rel=1e-10)
    assert int(sums.correct) == int((logits.argmax(1) == labels).sum())
    assert (net.training, net.norm.training, net.conv.training) == (True, False, True)
    assert float(net.norm.running_mean.abs().max()) == 0
