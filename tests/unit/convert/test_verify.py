"""The limits of the proof, and what it says at each side of them."""

import numpy as np
import pytest

from d2l_ft.convert.observe import Plan, loss, observe
from d2l_ft.convert.verify import (
    Defect,
    Live,
    Proof,
    Row,
    compare,
    decide,
    distance,
    prove,
    sensitivity,
    single,
)

X = np.random.default_rng(5).standard_normal((4, 1))


class Line:
    """A net in NumPy: w x and a constant error."""

    parameters = ('w',)
    rounds = False
    pooled = 1
    scaled = frozenset()

    def __init__(self, error=0.0):
        self.w, self.error = np.ones(1), error

    def forward(self, inputs, *, train, nodes):
        self.x = inputs['x']
        return {'y': self.w * self.x + self.error}

    def backward(self, gradients):
        slope = gradients['y']
        return {'w': (slope * self.x).sum(0), 'x': slope * self.w}

    def arrays(self):
        return {'w': self.w.copy()}

    def set_arrays(self, arrays):
        self.w = arrays.get('w', self.w)


class Wrong(Line):
    """The same with a wrong gradient."""

    def backward(self, gradients):
        found = super().backward(gradients)
        return {**found, 'w': 2 * found['w']}


def judged(error, response=0.0, stage='train', value=1.0, largest=1.0, clean=None):
    """Return the line on a value with an error, beside another that is the largest."""
    ours = {f'{stage}/a': np.array([largest]), f'{stage}/b': np.array([value])}
    other, near = ({**ours, f'{stage}/b': ours[f'{stage}/b'] + off} for off in (error, response))
    (row,) = compare(ours, other, [(100.0, near)], clean=clean)
    return row


@pytest.mark.parametrize(
    ('error', 'response', 'state'),
    [(9e-13, 0, 'equal'), (2e-12, 0, 'part'), (9e-11, 1e-12, 'equal'), (2e-10, 1e-12, 'part'),
     (1e-6, 9e-6, 'equal'), (1e-6, 2e-5, 'undecided'), (1e-2, 2e-5, 'part')],
)  # fmt: skip
def test_an_error_is_judged_by_what_a_disturbance_changes(error, response, state):
    assert judged(error, response).state == state


@pytest.mark.parametrize(('stage', 'part'), [('gradient', 1e-6), ('statistic', 1e-9)])
def test_what_is_far_below_the_largest_value_is_rounding(stage, part):
    assert judged(0.9e-12 * part, stage=stage, value=part / 1e3).state == 'equal'
    assert judged(5e-12 * part, stage=stage, value=part / 1e3).state == 'part'


def test_an_array_with_a_large_error_decides_nothing_beside_one_that_is_nearer_to_its_limit():
    ours = {'train/a': np.ones(1), 'train/b': np.ones(1)}
    near = {'train/a': np.ones(1), 'train/b': np.full(1, 1.1)}
    theirs = {'train/a': np.full(1, 1 + 9e-13), 'train/b': np.full(1, 1.5)}
    (row,) = compare(ours, theirs, [(100.0, near)])
    assert (row.where, row.state) == ('b', 'undecided')


def test_a_fault_is_judged_by_the_response_of_the_net_without_it():
    ours, near = {'train/a': np.ones(1)}, {'train/a': np.full(1, 1.5)}
    theirs, clean = {'train/a': np.full(1, 1.5)}, {'train/a': np.full(1, 1.5)}
    assert compare(ours, theirs, [(100.0, near)])[0].state == 'undecided'
    assert compare(ours, theirs, [(100.0, near)], clean=clean)[0].state == 'part'


def test_of_nodes_the_first_that_parts_is_named_and_else_the_worst():
    for stage, where in (('eval', 'b'), ('train', 'c')):
        ours = {f'{stage}/{name}': np.ones(1) for name in 'abc'}
        theirs = {f'{stage}/{name}': np.full(1, 1 + off) for off, name in enumerate('abc')}
        assert compare(ours, theirs, [])[0].where == where


@pytest.mark.parametrize(('stage', 'state'), [('train', 'undecided'), ('eval', 'equal')])
def test_values_that_are_lost_on_both_sides_prove_nothing_but_inside(stage, state):
    both = {f'{stage}/a': np.array([np.nan, 1.0])}
    assert compare(both, both, [])[0].state == state
    other = {f'{stage}/a': np.ones(2)}
    assert compare(both, other, [])[0].error == float('inf')


def test_the_relative_error_of_arrays_of_other_shapes():
    assert distance(np.ones((2, 3)), np.ones((3, 2))) == 0
    assert distance(np.ones(6), np.ones(5)) == float('inf')
    assert distance(np.ones(0), np.ones(0)) == 0


@pytest.mark.parametrize(
    ('mine', 'theirs', 'state'),
    [(0, 1.9e-6, 'equal'), (0, 2.1e-6, 'part'), (1e-5, 2.9e-5, 'equal'), (1e-5, 3.1e-5, 'part')],
)
def test_in_float32_mxnet_may_be_three_times_as_far(mine, theirs, state):
    x = {'x': np.ones((1, 1))}
    row = single(lambda _: Line(mine), Live(lambda _: Line(theirs)), {'y': x['x']}, Plan(x, ['y']))
    assert row.state == state


@pytest.mark.parametrize(('pooled', 'state'), [(1089, 'part'), (2601, 'equal')])
def test_in_float32_a_mean_of_many_values_may_be_further_away(pooled, state):
    x = {'x': np.ones((1, 1))}
    net, other, plan = Line(0), Line(2.9e-6), Plan(x, ['y'])
    row = single(lambda _: net, Live(lambda _: other), {'y': x['x']}, plan, pooled)
    assert row.state == state


def test_the_steps_have_momentum_and_decay_and_leave_what_is_held():
    plan = Plan({'x': X}, ['y'], steps=3, rate=0.1, momentum=0.5, decay=0.25)
    w, velocity, net = np.ones(1), np.zeros(1), Line()
    for _ in range(3):
        slope = (loss({'y': w * X}, plan)[1]['y'] * X).sum(0)
        velocity = 0.5 * velocity + slope + 0.25 * w
        w = w - 0.1 * velocity
    np.testing.assert_allclose(observe(net, plan)['steps/w'], w, rtol=1e-14)
    assert net.w == 1
    assert observe(net, plan._replace(held=frozenset({'w'})))['steps/w'] == 1


@pytest.mark.parametrize(
    ('ours', 'theirs', 'right'),
    [(1, 2, 'PyTorch'), (2, 1, 'MXNet'), (2, 3, 'neither'), (1.05, 2, 'neither')],
)
def test_finite_differences_say_which_gradient_is_right(ours, theirs, right):
    net, plan = Line(), Plan({'x': X}, ['y'])
    slope = net.backward(loss(net.forward(plan.inputs, train=True, nodes=False), plan)[1])
    for name in ('w', 'x'):
        found = decide(net, plan, name, ours * slope[name], theirs * slope[name])
        assert (found.name, found.right) == (name, right)
    assert net.w == 1


@pytest.mark.parametrize(
    ('ours', 'theirs', 'right', 'verdict'),
    [(Line, Wrong, 'PyTorch', 'equal'), (Wrong, Line, 'MXNet', 'part')],
)
def test_a_wrong_gradient_is_excused_in_mxnet_alone(ours, theirs, right, verdict):
    plan = Plan({'x': X}, ['y'], steps=2)
    proof = prove(lambda _: ours(), Live(lambda _: theirs()), plan)
    assert ([each.right for each in proof.defects], proof.verdict) == ([right], verdict)
    faults = {'none': lambda _: ours(), 'an error': lambda _: ours(0.1), 'no such thing': None}
    sensitivity(faults, plan, proof)
    seen = ['eval', 'train', 'gradient']
    assert proof.seen == {'none': [], 'an error': seen, 'no such thing': None}


@pytest.mark.parametrize(
    ('states', 'right', 'verdict'),
    [(['equal', 'equal'], 'PyTorch', 'equal'), (['equal', 'part', 'undecided'], 'MXNet', 'part'),
     (['equal', 'undecided'], 'PyTorch', 'undecided'), ([], 'PyTorch', 'undecided'),
     (['equal'], 'neither', 'undecided')],
)  # fmt: skip
def test_the_verdict(states, right, verdict):
    rows = [Row('train', 1, 0.0, 1e-12, 'a', state) for state in states]
    assert Proof(rows, [Defect('a', 0.0, 1.0, 2.0, right)]).verdict == verdict
