"""Prove that a translated net computes what the net of MXNet computes, or find where they part.

The reference is float64, which both frameworks compute on the CPU. Two correct programs differ
there by their rounding, which the net amplifies: how much is measured, by a disturbance of the
weights by one unit in the last place, and a difference is judged by it. In float32 each framework
is judged by its distance from float64.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from d2l_ft.backend.graph_net import GraphNet
from d2l_ft.errors import ModelError

Arrays = dict[str, NDArray[Any]]

Maker = Callable[[str], GraphNet]
"""What makes a net of a floating type."""

EQUAL = 1e-12
"""Relative error in float64 within which all is equal: some thousand roundings."""

RESPONSE = 100
"""A larger error is equal within so many times the net's own response to a disturbance."""

ROUNDED = 4
"""A few of MXNet's operators round to float32 inside. A difference in the last place may change
such a rounding, so a larger error is equal within so many times what all these roundings do."""

BLIND = 1e-3
"""A limit beyond which nothing is decided: the net amplifies its rounding to that."""

TIMES, SINGLE = 3.0, 2e-6
"""MXNet's distance from float64 in float32 is at most so many times PyTorch's, or times its own
response to a disturbance; below the second number (some roundings of float32) nothing is compared.
"""

ULP, ULP_SINGLE = 2.0**-52, 2.0**-23

FLOOR = {'gradient': 1e-6, 'statistic': 1e-9, 'eval': 1e-9, 'steps': 1e-9}
"""Values below this part of the group's largest are rounding: a gradient that is 0 in exact
arithmetic, as that of a bias before a BatchNorm."""


@dataclass(frozen=True)
class Plan:
    """What is computed on both sides.

    Attributes:
        inputs: Name -> (batch, ...) array.
        outputs: Names of the outputs.
        held: Parameters that the steps leave as they are.
        steps: Number of steps of SGD.
        rate: Learning rate.
        momentum: Momentum.
        decay: Weight decay.
        seed: Of targets and labels.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[str]
    held: frozenset[str] = frozenset()
    steps: int = 20
    rate: float = 0.01
    momentum: float = 0.9
    decay: float = 1e-4
    seed: int = 0


def loss(values: Arrays, plan: Plan) -> tuple[float, Arrays]:
    """Return the loss and its gradients by the outputs.

    It is the mean cross-entropy of an output of (batch, classes), with labels drawn; half the mean
    squared distance from a drawn target of any other output.
    """
    total, gradients = 0.0, {}
    for number, name in enumerate(dict.fromkeys(plan.outputs)):
        value = values[name].astype(np.float64)
        draws = np.random.default_rng([plan.seed, number])
        if value.ndim == 2 and value.shape[1] > 1:
            labels = draws.integers(value.shape[1], size=len(value))
            shifted = value - value.max(1, keepdims=True)
            logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
            total -= logs[np.arange(len(value)), labels].mean()
            chances = np.exp(logs)
            chances[np.arange(len(value)), labels] -= 1
            gradients[name] = chances / len(value)
        else:
            away = value - draws.standard_normal(value.shape)
            total += (away**2).mean() / 2
            gradients[name] = away / away.size
    return total, gradients


def observe(net: GraphNet, plan: Plan, *, nodes: bool = True) -> Arrays:
    """Return all that is compared: 'stage/name' -> array.

    Stages: 'eval' (each node's value), 'train' (outputs in training), 'gradient' (of each parameter
    and input), 'statistic' (after one step's forward and backward), 'steps' (parameters,
    statistics and outputs after the steps of SGD, which are taken here, in NumPy).
    """
    start = net.arrays()
    found = _named('eval', net.forward(plan.inputs, train=False, nodes=nodes))
    values = net.forward(plan.inputs, train=True, nodes=False)
    found |= _named('train', values)
    gradients = net.backward(loss(values, plan)[1])
    found |= _named('gradient', gradients)
    learn = [name for name in net.parameters if name not in plan.held]
    found |= _named(
        'statistic',
        {name: each for name, each in net.arrays().items() if name not in net.parameters},
    )
    net.set_arrays(start)
    if plan.steps:
        velocity = {name: np.zeros_like(start[name]) for name in learn}
        for _ in range(plan.steps):
            values = net.forward(plan.inputs, train=True, nodes=False)
            gradients = net.backward(loss(values, plan)[1])
            now = net.arrays()
            for name in learn:
                slope = gradients[name].reshape(now[name].shape) + plan.decay * now[name]
                velocity[name] = plan.momentum * velocity[name] + slope
                now[name] = now[name] - plan.rate * velocity[name]
            net.set_arrays({name: now[name] for name in learn})
        found |= _named(
            'steps', {**net.arrays(), **net.forward(plan.inputs, train=False, nodes=False)}
        )
        net.set_arrays(start)
    return found


def _named(stage: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {f'{stage}/{name}': each for name, each in arrays.items()}


def disturbed(arrays: Mapping[str, NDArray[Any]], size: float = ULP) -> Arrays:
    """Return arrays each of whose values is changed by one unit in the last place, up or down."""
    draws = np.random.default_rng(7)
    return {
        name: each * (1 + size * draws.choice((-1.0, 1.0), each.shape))
        for name, each in arrays.items()
    }


@dataclass(frozen=True)
class Row:
    """One line of the proof.

    Attributes:
        stage: What was compared.
        count: How many arrays.
        error: The largest relative error.
        limit: What it may be, there.
        where: The array of it; of 'eval', the first node that parts.
        state: 'equal', 'part' or 'undecided'.
    """

    stage: str
    count: int
    error: float
    limit: float
    where: str
    state: str


TITLES = {
    'eval': 'value of each node, in inference',
    'train': 'outputs in training',
    'gradient': 'gradient of each parameter and of the input',
    'statistic': 'running statistics after a step',
    'steps': 'parameters, statistics and outputs after the steps',
}
"""Stage -> what a line of the proof says."""


Responses = Sequence[tuple[float, Arrays]]
"""(times, what a net gives that is disturbed): the error within which all is equal."""


def responses(net: GraphNet, plan: Plan, *, nodes: bool = True) -> Responses:
    """Return what the translation gives with disturbed weights, and without roundings inside."""
    start = net.arrays()
    net.set_arrays(disturbed(start))
    found = [(float(RESPONSE), observe(net, plan, nodes=nodes))]
    net.set_arrays(start)
    if net.rounds:
        net.rounds = False
        found.append((float(ROUNDED), observe(net, plan, nodes=nodes)))
        net.rounds = True
    return found


def compare(
    ours: Arrays,
    theirs: Arrays,
    near: Responses,
    ignored: Iterable[str] = (),
    clean: Arrays | None = None,
) -> list[Row]:
    """Return a line for each stage.

    Args:
        ours: What the translation gave.
        theirs: What MXNet gave.
        near: What the translation gave when it was disturbed.
        ignored: Keys that are judged elsewhere.
        clean: What it gave before that and without a fault, if that is not ``ours``.
    """
    rows = []
    for stage in TITLES:
        keys = [
            key
            for key in ours
            if key.startswith(f'{stage}/') and key in theirs and key not in set(ignored)
        ]
        if not keys:
            continue
        largest = max(float(np.abs(theirs[key]).max(initial=0)) for key in keys)
        floor = FLOOR.get(stage, 0.0) * largest
        judged = [_judge(key, ours, theirs, near, floor, clean) for key in keys]
        wrong = [each for each in judged if not each[1] <= each[2]]
        if stage == 'eval' and wrong:
            key, error, limit = wrong[0]  # nodes come in the order of the net: the first that parts
        else:
            key, error, limit = max(judged, key=lambda each: each[1] / each[2])
        # of nodes inside, infinite values may be meant, such as a mask's
        lost = stage != 'eval' and not all(np.isfinite(theirs[key]).all() for key in keys)
        state = 'part' if wrong else 'undecided' if lost or limit > BLIND else 'equal'
        rows.append(Row(stage, len(keys), error, limit, key.partition('/')[2], state))
    return rows


def _judge(
    key: str,
    ours: Arrays,
    theirs: Arrays,
    near: Responses,
    floor: float,
    clean: Arrays | None = None,
) -> tuple[str, float, float]:
    """Return (key, relative error, limit) of one array."""
    error = relative(ours[key], theirs[key], floor)
    start = (clean or ours).get(key)
    limits = [
        times * relative(each[key], start, floor)
        for times, each in near
        if key in each and start is not None
    ]
    return key, error, max([EQUAL, *limits])


def relative(ours: NDArray[Any], theirs: NDArray[Any], floor: float = 0.0) -> float:
    """Return the largest difference by the largest value; infinite where shape or NaN differ."""
    if ours.size != theirs.size:
        return float('inf')
    if not ours.size:
        return 0.0
    ours = ours.reshape(theirs.shape)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return 0.0 if np.array_equal(ours, theirs, equal_nan=True) else float('inf')
    scale = max(float(np.abs(theirs).max()), floor, 1e-300)
    return float(np.abs(ours - theirs).max()) / scale


def single(ours: Maker, theirs: Maker, exact: Arrays, plan: Plan) -> Row:
    """Return the line of float32: each side's distance from float64, in inference."""

    def distance(one: Arrays, other: Arrays) -> float:
        return max(relative(one[name], other[name]) for name in plan.outputs)

    wanted = {name: exact[f'eval/{name}'] for name in plan.outputs}
    mine = distance(ours('float32').forward(plan.inputs, train=False, nodes=False), wanted)
    net = theirs('float32')
    values = net.forward(plan.inputs, train=False, nodes=False)
    net.set_arrays(disturbed(net.arrays(), ULP_SINGLE))
    response = distance(net.forward(plan.inputs, train=False, nodes=False), values)
    error = distance(values, wanted)
    limit = max(TIMES * mine, TIMES * response, SINGLE)
    state = 'equal' if error <= limit else 'part'
    return Row('float32', len(wanted), error, limit, next(iter(wanted)), state)


@dataclass(frozen=True)
class Defect:
    """A gradient in which the sides part, and which side finite differences call right.

    Attributes:
        name: The parameter or the input.
        measured: The slope of the loss along the difference of the two gradients, measured.
        ours: What the translation's gradient says of it.
        theirs: What MXNet's says.
        right: 'PyTorch', 'MXNet' or 'neither'.
    """

    name: str
    measured: float
    ours: float
    theirs: float
    right: str


def decide(
    net: GraphNet, plan: Plan, name: str, ours: NDArray[Any], theirs: NDArray[Any]
) -> Defect:
    """Measure a slope of the loss by finite differences in float64.

    The losses of both sides agree when this is asked, so one net is enough to measure it.
    """
    start = net.arrays()
    here = {**start, **plan.inputs}[name].astype(np.float64)
    way = ours.reshape(here.shape) - theirs.reshape(here.shape)
    way = way / np.linalg.norm(way)
    size = 1e-5 * max(1.0, float(np.abs(here).max()))
    losses = []
    rounds, net.rounds = net.rounds, False  # a difference so small would drown in them
    for sign in (1, -1):
        moved = here + sign * size * way
        inputs = {**plan.inputs, name: moved} if name in plan.inputs else plan.inputs
        net.set_arrays({**start, name: moved} if name in start else start)
        losses.append(loss(net.forward(inputs, train=True, nodes=False), plan)[0])
    net.set_arrays(start)
    net.rounds = rounds
    measured = (losses[0] - losses[1]) / (2 * size)
    mine, other = (float((each.reshape(way.shape) * way).sum()) for each in (ours, theirs))
    apart = abs(mine - other)
    right = (
        'PyTorch'
        if abs(measured - mine) < 0.01 * apart
        else 'MXNet'
        if abs(measured - other) < 0.01 * apart
        else 'neither'
    )
    return Defect(name, float(measured), mine, other, right)


@dataclass
class Proof:
    """What a comparison came to.

    Attributes:
        rows: The lines, from the first to the last stage.
        defects: Gradients that MXNet computes wrongly, by finite differences.
        notes: What was not shown, and why.
        seen: Fault -> the stages whose lines saw it, or None where the net has no such thing.
        clean: What the translation gave.
        near: What it gave when it was disturbed.
    """

    rows: list[Row] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: dict[str, list[str] | None] = field(default_factory=dict)
    clean: Arrays = field(default_factory=dict, repr=False)
    near: Responses = field(default=(), repr=False)

    @property
    def verdict(self) -> str:
        """Return 'equal', 'part' or 'undecided'."""
        states = [row.state for row in self.rows]
        if 'part' in states:
            return 'part'
        if (
            'undecided' in states
            or not states
            or any(each.right == 'neither' for each in self.defects)
        ):
            return 'undecided'
        return 'equal'


def safe_rate(net: GraphNet, plan: Plan) -> float:
    """Return a learning rate with which the steps go on for long: a power of 2.

    A step moves no parameter by more than about a hundredth of its norm.
    """
    start = net.arrays()
    gradients = net.backward(loss(net.forward(plan.inputs, train=True, nodes=False), plan)[1])
    net.set_arrays(start)
    ratios = [
        float(np.linalg.norm(gradients[name])) / float(np.linalg.norm(start[name]))
        for name in net.parameters
        if np.linalg.norm(start[name]) > 0
    ]
    fastest = max(ratios, default=1.0)
    return float(2.0 ** np.floor(np.log2(0.01 / max(fastest, 1e-12)))) if fastest > 0 else 0.01


def prove(ours: Maker, theirs: Maker, plan: Plan) -> Proof:
    """Compare two nets.

    Args:
        ours: Makes the translation in a floating type.
        theirs: Makes MXNet's net.
        plan: What is computed; its rate is chosen here.
    """
    with tqdm(total=5, desc='compare', unit='stage', leave=False, disable=None) as bar:
        return _prove(ours, theirs, plan, bar.update)


def _prove(ours: Maker, theirs: Maker, plan: Plan, advance: Callable[[], object]) -> Proof:
    """Compare two nets, and call a function after each of five stages."""
    proof = Proof()
    net = ours('float64')
    exact = _named('eval', net.forward(plan.inputs, train=False, nodes=False))
    last = single(ours, theirs, exact, plan)
    advance()
    short = _with(plan, steps=0)
    try:
        reference = theirs('float64')
        other = observe(reference, short)
    except ModelError as error:
        proof.notes.append(f'{error}: only float32 was compared, which decides nothing')
        proof.rows = [Row('eval', 0, float('nan'), EQUAL, '', 'undecided'), last]
        return proof
    advance()
    # what the graph itself keeps fixed, such as a scale that is 1: stored values of it are void
    fixed = frozenset(reference.parameters) - frozenset(net.parameters)
    plan = _with(plan, rate=min(plan.rate, safe_rate(net, plan)), held=plan.held | fixed)
    first = observe(net, short)
    del reference  # with large nets the memory is needed
    advance()
    near = responses(net, short)
    advance()
    rows = compare(first, other, near)
    if rows[0].state != 'part' and any(
        row.stage == 'gradient' and row.state == 'part' for row in rows
    ):
        proof.defects = _defects(net, short, first, other, near)
    held = frozenset(each.name for each in proof.defects if each.right == 'PyTorch')
    ignored = [f'gradient/{name}' for name in held] + [f'steps/{name}' for name in fixed]
    proof.rows = compare(first, other, near, ignored)
    proof.clean, proof.near = first, near
    if plan.steps and all(row.state != 'part' for row in proof.rows):
        whole = _with(plan, held=plan.held | held)
        mine = observe(net, whole, nodes=False)
        their = observe(theirs('float64'), whole, nodes=False)
        near = responses(net, whole, nodes=False)
        proof.rows += [row for row in compare(mine, their, near, ignored) if row.stage == 'steps']
    advance()
    proof.rows.append(last)
    return proof


def sensitivity(
    faults: Mapping[str, Maker | None], theirs: Maker, plan: Plan, proof: Proof
) -> None:
    """Note which stages see each fault, in ``proof.seen``.

    Args:
        faults: What a fault is -> what makes the translation with it, or None where the net has no
            such thing.
        theirs: Makes MXNet's net.
        plan: As for ``prove``.
        proof: Of the translation without a fault: what it ignores is ignored.
    """
    reference = theirs('float64')
    held = plan.held | {each.name for each in proof.defects}
    short = _with(plan, steps=0)
    other = observe(reference, short)
    for words, make in tqdm(
        faults.items(), desc='plant faults', unit='fault', leave=False, disable=None
    ):
        if make is None:
            proof.seen[words] = None
            continue
        try:
            net = make('float64')
            first = observe(net, short)
        except ModelError:  # shapes that do not fit are seen, too
            proof.seen[words] = ['eval']
            continue
        ignored = [f'gradient/{name}' for name in held]
        rows = compare(first, other, proof.near, ignored, proof.clean)
        proof.seen[words] = [row.stage for row in rows if row.state == 'part']


def _with(plan: Plan, **changes: Any) -> Plan:
    return Plan(**{**vars(plan), **changes})


def _defects(
    net: GraphNet, plan: Plan, ours: Arrays, theirs: Arrays, near: Responses
) -> list[Defect]:
    """Return who is right, by finite differences, for each parameter whose gradients part."""
    keys = [key for key in ours if key.startswith('gradient/') and key in theirs]
    largest = max(float(np.abs(theirs[key]).max(initial=0)) for key in keys)
    found: list[Defect] = []
    for key in keys:
        name = key.partition('/')[2]
        _, error, limit = _judge(key, ours, theirs, near, FLOOR['gradient'] * largest)
        known = name in net.parameters or name in plan.inputs
        if error > limit and known and len(found) < 50:
            found.append(decide(net, plan, name, ours[key], theirs[key]))
    return found
