"""The comparison helpers, each with a case in which it fails; the table; the files between."""

import json
import math

import numpy as np
import pytest

from d2l_ft.errors import ParityError
from d2l_ft.models.compare import relative
from d2l_ft.parity import ladder, tolerances
from d2l_ft.parity.command import line, verdict
from d2l_ft.parity.compare import (
    SUMS,
    first_beyond,
    first_unequal,
    kolmogorov_smirnov,
    largest,
    relative_by_name,
    relative_norm,
    ulps,
    unequal,
)
from d2l_ft.parity.ladder import Result, compare, drop_rungs
from d2l_ft.parity.plan import Check, Plan, Trace, perturb, thin
from d2l_ft.parity.report import stated_figures
from d2l_ft.parity.rungs import RUNGS
from d2l_ft.parity.rungs.step import PLAIN, estimate_factors
from d2l_ft.parity.rungs.update import with_biased_variance
from d2l_ft.parity.tolerances import TABLE, check

ONE = np.array([1.0, -2.0, 4.0])


def test_relative():
    assert relative(ONE, ONE) == 0
    assert relative(ONE + [0, 0.4, 0], ONE) == pytest.approx(0.1)
    assert relative(ONE, np.zeros(3)) == math.inf
    assert relative(ONE, ONE[:2]) == math.inf
    assert relative(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == math.inf
    assert relative(np.array([np.inf]), np.array([np.inf])) == math.inf


def test_whole():
    assert relative_norm({'a': ONE}, {'a': ONE}) == 0
    assert relative_norm({'a': ONE, 'b': 2 * ONE}, {'a': ONE, 'b': ONE}) == pytest.approx(
        math.sqrt(0.5)
    )
    assert relative_norm({'a': ONE}, {'b': ONE}) == math.inf
    assert relative_norm({}, {}) == math.inf
    sums = {f'a{SUMS}': 1e9 * ONE}
    assert relative_norm({'a': 2 * ONE, **sums}, {'a': ONE, **sums}) == pytest.approx(1)
    assert relative_norm({'a': ONE * np.nan}, {'a': ONE}) == math.inf


def test_each_sees_missing_names_and_keeps_the_order():
    values = relative_by_name({'a': ONE, 'c': ONE}, {'b': ONE, 'a': ONE * 1.5})
    assert list(values) == ['a', 'c', 'b']
    assert values['a'] == pytest.approx(1 / 3)
    assert values['b'] == values['c'] == math.inf
    assert first_beyond(values, 0.1) == 'a'
    assert first_beyond(values, 0.5) == 'c'
    assert first_beyond({'x': math.nan}, 1e9) == 'x'
    assert first_beyond({'x': 0.0}, 0.0) == ''


def test_a_floor_hides_what_vanishes_and_nothing_else():
    big, tiny = np.array([1.0, -1.0]), np.array([1e-9, 0.0])
    assert relative_by_name({'t': 2 * tiny}, {'t': tiny})['t'] == 1
    values = relative_by_name({'b': big, 't': 2 * tiny}, {'b': big, 't': tiny}, 1e-4)
    assert values == {'b': 0, 't': pytest.approx(1e-5)}
    assert relative_by_name({'b': big * 1.1}, {'b': big}, 1e-4)['b'] == pytest.approx(0.1)


def test_largest_of_nothing_is_not_small():
    assert largest([0.1, 0.3]) == 0.3
    assert largest([]) == math.inf
    assert largest([0.1, math.nan]) == math.inf


def test_unequal_counts_bits():
    assert unequal(ONE, ONE.copy()) == 0
    assert unequal(ONE, ONE + [0, 1e-16, 1e-9]) == 1
    assert unequal(np.array([0.0]), np.array([-0.0])) == 1
    assert unequal(ONE, ONE.astype(np.float32)) == 3
    assert unequal(ONE, ONE[:2]) == 3


def test_ulps():
    one = np.array([1.0, -1.0, 0.0], np.float32)
    assert ulps(one, one) == 0
    assert ulps(one, np.nextafter(one, np.float32(9))) == 1
    assert ulps(np.array([-0.0], np.float32), np.array([0.0], np.float32)) == 0
    assert ulps(one, one.astype(np.float64)) == math.inf
    assert ulps(one, one * np.float32(np.nan)) == math.inf


def test_first_unequal():
    assert first_unequal('abc', 'abc') is None
    assert first_unequal('abc', 'abd') == 2
    assert first_unequal('abc', 'ab') == 2


def test_kolmogorov_smirnov_tells_distributions_apart():
    rng = np.random.default_rng(0)
    a, b, c = rng.random(3000), rng.random(3000), rng.random(3000) ** 1.15
    assert kolmogorov_smirnov(a, b) < 1.95
    assert kolmogorov_smirnov(a, c) > 1.95


def test_shaken_and_thin():
    state = {
        'conv.weight': np.zeros((2, 2), np.float32),
        'bn.weight': np.ones(9, np.float32),
        'bn.running_var': np.ones(9, np.float32),
        'bn.bias': np.zeros(9, np.float32),
        'big': np.zeros((300, 300), np.float32),
    }
    one, two = perturb(state, 0), perturb(state, 1)
    assert not one['conv.weight'].any()
    assert (one['bn.running_var'] > 0.6).all()
    assert np.ptp(one['bn.weight']) > 0.1
    assert np.ptp(one['bn.bias']) > 0.01
    assert not np.array_equal(one['bn.bias'], two['bn.bias'])
    small = thin(state)
    assert small['big'].size < 90000
    changed = state['big'].copy()
    changed[299, 299] = 0.5  # an element that is not among those kept is seen in the sums
    other = thin({'big': changed})
    assert first_beyond(relative_by_name({k: small[k] for k in other}, other), 0) == 'big (sums)'


def test_observed_finds_rate_and_decay():
    rng = np.random.default_rng(0)
    before, gradient = {'w': rng.normal(size=50)}, {'w': rng.normal(size=50)}
    rate = PLAIN.learning_rate
    after = {'w': before['w'] - 3 * rate * (gradient['w'] + 0.02 * before['w'])}
    ((multiple, decay),) = estimate_factors(before, after, gradient).values()
    assert multiple == pytest.approx(3)
    assert decay == pytest.approx(0.02)
    lost = {'w': before['w'] - rate * gradient['w']}
    ((_, decay),) = estimate_factors(before, lost, gradient).values()
    assert abs(decay) < 1e-9


def test_biased_removes_the_factor():
    rng = np.random.default_rng(0)
    batch, old = rng.normal(size=(7, 3)), np.array([1.0, 2.0, 3.0])
    ours, theirs = (0.1 * (batch.var(0, ddof=ddof) - old) for ddof in (0, 1))
    assert np.allclose(with_biased_variance(theirs, old, 7), ours, rtol=1e-12)
    assert not np.allclose(with_biased_variance(theirs, old, 8), ours, rtol=1e-3)


def test_check_fails_beyond_the_limit_and_below_the_least():
    good = check('pixels', 'data', 'floats', 1)
    assert good.ok
    assert good.cause == ''
    bad = check('pixels', 'data', 'floats', 2, 'there')
    assert not bad.ok
    assert bad.where == 'there'
    assert 'mean and deviation' in bad.cause
    assert not check('pixels', 'data', 'floats', math.nan).ok
    assert not check('pixels', 'own', 'edges-pytorch', 0).ok  # the known difference has gone
    with pytest.raises(ParityError, match='no row'):
        check('pixels', 'data', 'nothing', 0)


def test_the_longest_name_counts_and_an_architecture_may_have_its_own_row(monkeypatch):
    assert 'AVX2' in tolerances.row('pixels', 'own/train-tensor-antialias').reason
    assert 'AVX2' not in tolerances.row('pixels', 'own/train-tensor').reason
    own = tolerances.Tolerance('forward', 'logits-eval-float64', 1, '', '', '', archs=('vgg11',))
    monkeypatch.setattr(tolerances, 'TABLE', (*TABLE, own))
    assert tolerances.limit('forward', 'logits-eval-float64', 'vgg11') == 1
    assert tolerances.limit('forward', 'logits-eval-float64', 'resnet18') < 1e-12


@pytest.mark.parametrize('row', TABLE, ids=lambda row: f'{row.rung}-{row.what}')
def test_no_tolerance_is_looser_than_ten_times_what_was_seen(row):
    assert row.rung in RUNGS
    assert row.reason
    assert row.cause
    statistical = row.reason.startswith('statistical') or row.unit == 'ulp'
    stated = math.isinf(row.limit)  # and nothing is judged by it
    assert row.limit == 0 or statistical or stated or row.limit <= 10 * row.seen
    assert row.seen <= row.limit
    assert row.least <= row.seen


def test_a_missing_or_pickled_trace_is_an_error(tmp_path):
    trace = Trace(tmp_path)
    with pytest.raises(ParityError, match='has no samples/epochs'):
        trace.facts('samples/epochs')
    with pytest.raises(ParityError, match='has no x'):
        trace.arrays('x')
    np.savez(tmp_path / 'x.npz', a=np.array([{}], dtype=object))
    with pytest.raises(ParityError, match='has no x'):
        trace.arrays('x')
    plan = Plan(str(tmp_path), rungs=('samples',))
    with pytest.raises(ParityError):
        compare(plan, trace, trace)


def test_plan_round_trip():
    plan = Plan('somewhere', ('vgg11',), (2, 10), rungs=('pixels',))
    assert Plan.from_json(plan.to_json()) == plan


def test_a_stated_figure_is_neither_equal_nor_different():
    figure = check('pixels', 'own', 'opencv-train-pil', 210, 'a.jpg')
    assert (figure.stated, figure.fails, figure.where) == (True, False, 'a.jpg')
    assert not check('pixels', 'own', 'opencv-train-pil', math.nan).fails
    good, bad = (Check('a', 0, 0, '', ok) for ok in (True, False))
    assert not Result([figure], {}).equal  # nothing was judged
    assert Result([good, figure], {}).equal
    assert not Result([bad, figure], {}).equal
    assert Result([good, figure], {}).count == '1 checks (and 1 stated figures) in 0 s'
    read = json.loads(Result([good, figure], {}).to_json())['checks'][1]
    assert (read['value'], read['tolerance'], read['stated']) == (210, None, True)
    assert 'stated, of 255; a.jpg' in line(figure)
    assert '210' in stated_figures([good, figure])
    assert stated_figures([good]) == ''
    with pytest.raises(ParityError, match='nothing was compared'):
        verdict(Result([figure], {}), print)


@pytest.mark.parametrize('rung', RUNGS)
def test_a_rung_that_lacks_images_is_left_out_and_says_so(rung, tmp_path):
    for name in 'ab':
        (tmp_path / name).mkdir()
        (tmp_path / name / '0.png').touch()
    plan, notes = drop_rungs(Plan(str(tmp_path), rungs=(rung,)))
    if rung == 'runs':
        assert plan.rungs == ()
        assert 'at least 2 of each class' in notes[0]
        assert 'has 2 in 2 classes' in notes[0]
        assert ladder.run_ladder(Plan(str(tmp_path), rungs=(rung,)), tmp_path).notes == notes
    else:
        assert plan.rungs == (rung,)
        assert notes == []
    first, second = plan.shortage()
    assert 'the same are tested on' in first
    assert '2 training images for batches of 8' in second


def test_nothing_compared_is_not_equal():
    good, bad = (Check('a', 0, 0, '', ok) for ok in (True, False))
    assert Result([good], {}).equal
    assert not Result([], {}).equal
    assert not Result([good, bad], {}).equal
    assert 'null' in Result([Check('a', math.inf, 0, '', False)], {}).to_json()
