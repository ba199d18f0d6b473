"""Prove that a translated net computes what the net of MXNet computes, or find where they part.

The reference is float64, which both frameworks compute on the CPU. Two correct programs differ
there by their rounding, which the net amplifies: how much is measured, by a disturbance of the
weights by one unit in the last place, and a difference is judged by it. In float32 each framework
is judged by its distance from float64.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from d2l_ft.backend.graph_net import Arrays, GraphNet, Maker
from d2l_ft.convert.observe import Plan, disturb, loss, observe, observe_single, places, safe_rate
from d2l_ft.errors import ModelError
from d2l_ft.models.compare import relative

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

HALF_ULP = 2.0**-24
"""Relative error of one rounding in float32. MXNet pools by adding one value after another: of n
values the error is around the square root of n times this, as of a random walk (measured: 3.3e-6
for 25 600 values; a sequential sum in float32 gives MXNet's bits)."""

FLOOR = {'gradient': 1e-6, 'statistic': 1e-9, 'eval': 1e-9, 'steps': 1e-9}
"""Values below this part of the group's largest are rounding: a gradient that is 0 in exact
arithmetic, as that of a bias before a BatchNorm."""


class Reference(Protocol):
    """What a translation is compared with: MXNet's net, or what was written down of it."""

    @property
    def parameters(self) -> Sequence[str]:
        """Return the names of what learns; known after ``observe``."""
        ...

    def observe(self, plan: Plan, *, nodes: bool = True) -> Arrays:
        """Return what ``observe`` gives in float64.

        Raises:
            ModelError: MXNet does not compute it, or it was not written down.
        """
        ...

    def single(self, plan: Plan) -> tuple[Arrays, Arrays]:
        """Return what ``observe_single`` gives."""
        ...


class Live:
    """A net of MXNet that is here."""

    def __init__(self, make: Maker) -> None:
        """Take what makes the net."""
        self.make, self.parameters = make, list[str]()

    def observe(self, plan: Plan, *, nodes: bool = True) -> Arrays:
        """Return what ``observe`` gives in float64."""
        net = self.make('float64')  # let go of at the end: with large nets the memory is needed
        self.parameters = list(net.parameters)
        return observe(net, plan, nodes=nodes)

    def single(self, plan: Plan) -> tuple[Arrays, Arrays]:
        """Return what ``observe_single`` gives."""
        return observe_single(self.make, plan)


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
    net.set_arrays(disturb(start))
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
            blind = [each for each in judged if each[1] > BLIND]  # within a limit that is larger
            key, error, limit = max(wrong or blind or judged, key=lambda each: each[1] / each[2])
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
    error = distance(ours[key], theirs[key], floor)
    start = (clean or ours).get(key)
    limits = [
        times * distance(each[key], start, floor)
        for times, each in near
        if key in each and start is not None
    ]
    return key, error, max([EQUAL, *limits])


def distance(ours: NDArray[Any], theirs: NDArray[Any], floor: float = 0.0) -> float:
    """Return ``relative``, where shapes may differ by ones and values may be meant to be infinite.

    Gluon's and MXNet's names of one array may stand for (n,) and (1, n); a mask has infinities.
    """
    if ours.size != theirs.size:
        return math.inf
    ours = ours.reshape(theirs.shape)
    if np.array_equal(ours, theirs, equal_nan=True):
        return 0.0
    return relative(ours, theirs, floor)


def single(ours: Maker, reference: Reference, exact: Arrays, plan: Plan, pooled: int = 1) -> Row:
    """Return the line of float32: each side's distance from float64, in inference.

    Args:
        ours: Makes the translation.
        reference: The net of MXNet.
        exact: The outputs in float64.
        plan: What is computed.
        pooled: The most values of which the net takes a mean.
    """

    def apart(one: Arrays, other: Arrays) -> float:
        return max(distance(one[name], other[name]) for name in plan.outputs)

    mine = apart(ours('float32').forward(plan.inputs, train=False, nodes=False), exact)
    values, near = reference.single(plan)
    error = apart(values, exact)
    added = math.sqrt(pooled) * HALF_ULP
    limit = max(TIMES * mine, TIMES * apart(near, values), SINGLE, added)
    state = 'equal' if error <= limit else 'part'
    return Row('float32', len(exact), error, limit, next(iter(exact)), state)


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
    mine, other = ours.ravel(), theirs.ravel()
    at = np.arange(here.size)
    if mine.size < here.size:  # some values were kept, one perhaps twice
        at, first = np.unique(places(f'gradient/{name}', here.size, mine.size), return_index=True)
        mine, other = mine[first], other[first]
    along = (mine - other) / np.linalg.norm(mine - other)
    way = np.zeros(here.size)
    way[at] = along
    way = way.reshape(here.shape)
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
    slopes = {'PyTorch': float(mine @ along), 'MXNet': float(other @ along)}
    near = 0.01 * abs(slopes['PyTorch'] - slopes['MXNet'])
    right = next((who for who, each in slopes.items() if abs(measured - each) < near), 'neither')
    return Defect(name, float(measured), slopes['PyTorch'], slopes['MXNet'], right)


@dataclass
class Proof:
    """What a comparison came to.

    Attributes:
        rows: The lines, from the first to the last stage.
        defects: Gradients that MXNet computes wrongly, by finite differences.
        notes: What was not shown, and why.
        seen: Fault -> the stages whose lines saw it, or None where the net has no such thing.
        reproduced: Parameters for which the translation was given MXNet's defect.
        clean: What the translation gave, in the first four stages.
        near: What it gave when it was disturbed.
        other: What MXNet gave.
    """

    rows: list[Row] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: dict[str, list[str] | None] = field(default_factory=dict)
    reproduced: frozenset[str] = frozenset()
    clean: Arrays = field(default_factory=dict, repr=False)
    near: Responses = field(default=(), repr=False)
    other: Arrays = field(default_factory=dict, repr=False)

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


def prove(ours: Maker, reference: Reference, plan: Plan, *, as_mxnet: bool = False) -> Proof:
    """Compare a translation with what it was translated from.

    Args:
        ours: Makes the translation in a floating type.
        reference: The net of MXNet.
        plan: What is computed.
        as_mxnet: Whether the translation gets the known defect of MXNet where it is met, so that
            gradients and steps are compared there, too.
    """
    with tqdm(total=5, desc='compare', unit='stage', leave=False, disable=None) as bar:
        return _prove(ours, reference, plan, bar.update, as_mxnet=as_mxnet)


def _prove(
    ours: Maker,
    reference: Reference,
    plan: Plan,
    advance: Callable[[], object],
    *,
    as_mxnet: bool,
) -> Proof:
    """Compare, and call a function after each of five stages."""
    proof = Proof()
    net = ours('float64')
    exact = net.forward(plan.inputs, train=False, nodes=False)
    last = single(ours, reference, exact, plan, net.pooled)
    advance()
    short = plan._replace(steps=0)
    try:
        proof.other = reference.observe(short)
    except ModelError as error:
        proof.notes.append(f'{error}: only float32 was compared, which decides nothing')
        proof.rows = [Row('eval', 0, float('nan'), EQUAL, '', 'undecided'), last]
        return proof
    advance()
    # what the graph itself keeps fixed, such as a scale that is 1: stored values of it are void
    fixed = frozenset(reference.parameters) - frozenset(net.parameters)
    proof.clean = observe(net, short)
    advance()
    proof.near = responses(net, short)
    advance()
    rows = compare(proof.clean, proof.other, proof.near)
    if rows[0].state != 'part' and any(
        row.stage == 'gradient' and row.state == 'part' for row in rows
    ):
        proof.defects = _defects(net, short, proof.clean, proof.other, proof.near)
    if as_mxnet and proof.defects:
        net.scaled = frozenset(each.name for each in proof.defects if each.right == 'PyTorch')
        proof.clean, proof.near = observe(net, short), responses(net, short)
        net.scaled -= frozenset(_parting_gradients(proof.clean, proof.other, proof.near))
        proof.reproduced = net.scaled
    wrong = {each.name for each in proof.defects if each.right == 'PyTorch'}
    held = frozenset(wrong) - proof.reproduced
    ignored = [f'gradient/{name}' for name in held] + [f'steps/{name}' for name in fixed]
    proof.rows = compare(proof.clean, proof.other, proof.near, ignored)
    if plan.steps and all(row.state != 'part' for row in proof.rows):
        rate = safe_rate(net, plan) if plan.rate is None else plan.rate
        whole = plan._replace(held=plan.held | held | fixed, rate=rate)
        proof.rows += _steps(net, reference, whole, ignored, proof.notes)
    advance()
    proof.rows.append(last)
    return proof


def _steps(
    net: GraphNet, reference: Reference, plan: Plan, ignored: Sequence[str], notes: list[str]
) -> list[Row]:
    """Return the line of the steps of SGD."""
    try:
        their = reference.observe(plan, nodes=False)
    except ModelError as error:
        notes.append(str(error))
        return [Row('steps', 0, float('nan'), EQUAL, '', 'undecided')]
    mine, near = observe(net, plan, nodes=False), responses(net, plan, nodes=False)
    return [row for row in compare(mine, their, near, ignored) if row.stage == 'steps']


def sensitivity(faults: Mapping[str, Maker | None], plan: Plan, proof: Proof) -> None:
    """Note which stages see each fault, in ``proof.seen``.

    Args:
        faults: What a fault is -> what makes the translation with it, or None where the net has no
            such thing.
        plan: As for ``prove``.
        proof: Of the translation without a fault: what it ignores is ignored.
    """
    ignored = [
        f'gradient/{each.name}' for each in proof.defects if each.name not in proof.reproduced
    ]
    short = plan._replace(steps=0)
    for words, make in tqdm(
        faults.items(), desc='plant faults', unit='fault', leave=False, disable=None
    ):
        if make is None:
            proof.seen[words] = None
            continue
        try:
            net = make('float64')
            net.scaled = proof.reproduced
            planted = observe(net, short)
        except ModelError:  # shapes that do not fit are seen, too
            proof.seen[words] = ['eval']
            continue
        rows = compare(planted, proof.other, proof.near, ignored, proof.clean)
        proof.seen[words] = [row.stage for row in rows if row.state == 'part']


def _parting_gradients(ours: Arrays, theirs: Arrays, near: Responses) -> list[str]:
    """Return the parameters and inputs whose gradients part."""
    keys = [key for key in ours if key.startswith('gradient/') and key in theirs]
    largest = max(float(np.abs(theirs[key]).max(initial=0)) for key in keys)
    judged = [_judge(key, ours, theirs, near, FLOOR['gradient'] * largest) for key in keys]
    return [key.partition('/')[2] for key, error, limit in judged if error > limit]


def _defects(
    net: GraphNet, plan: Plan, ours: Arrays, theirs: Arrays, near: Responses
) -> list[Defect]:
    """Return who is right, by finite differences, for each parameter whose gradients part."""
    known = {*net.parameters, *plan.inputs}
    names = [name for name in _parting_gradients(ours, theirs, near) if name in known]
    return [
        decide(net, plan, name, ours[f'gradient/{name}'], theirs[f'gradient/{name}'])
        for name in names[:50]
    ]
