"""What is computed with a net of either framework, to be compared: in NumPy but for the net itself.

``d2l-ft witness`` writes this file's code into a program for old Pythons, see ``witness``: there
may be nothing in it that Python 3.6 and NumPy 1.14 lack, but for types.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2l_ft.backend.graph_net import Arrays, GraphNet, Maker
from d2l_ft.errors import ModelError

FORMAT = 1
"""Of what ``write_down`` returns."""

ULP, ULP_SINGLE = 2.0**-52, 2.0**-23


class Plan(NamedTuple):
    """What is computed on both sides.

    Attributes:
        inputs: Name -> (batch, ...) array.
        outputs: Names of the outputs.
        held: Parameters that the steps leave as they are.
        steps: Number of steps of SGD.
        rate: Learning rate, or None: one that is safe is chosen.
        momentum: Momentum.
        decay: Weight decay.
        seed: Of targets and labels.
        kept: Values that are kept of an array, drawn by its name; all by default.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[str]
    held: frozenset[str] = frozenset()
    steps: int = 20
    rate: float | None = None
    momentum: float = 0.9
    decay: float = 1e-4
    seed: int = 0
    kept: int | None = None


def loss(values: Arrays, plan: Plan) -> tuple[float, Arrays]:
    """Return the loss and its gradients by the outputs.

    It is the mean cross-entropy of an output of (batch, classes), with labels drawn; half the mean
    squared distance from a drawn target of any other output.
    """
    total, gradients = 0.0, {}
    for number, name in enumerate(dict.fromkeys(plan.outputs)):
        value = values[name].astype(np.float64)
        draws = np.random.RandomState([plan.seed, number])  # the same in every NumPy
        if value.ndim == 2 and value.shape[1] > 1:
            labels = draws.randint(value.shape[1], size=len(value))
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


def places(key: str, size: int, kept: int) -> NDArray[Any]:
    """Return which values of a flat array are kept, drawn by its name."""
    return np.random.RandomState(zlib.crc32(key.encode())).randint(size, size=kept)


def observe(net: GraphNet, plan: Plan, *, nodes: bool = True) -> Arrays:
    """Return all that is compared: 'stage/name' -> array.

    Stages: 'eval' (each node's value), 'train' (outputs in training), 'gradient' (of each parameter
    and input), 'statistic' (after one step's forward and backward), 'steps' (parameters,
    statistics and outputs after the steps of SGD, which are taken here, in NumPy).
    """
    found: Arrays = {}

    def keep(stage: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            key = f'{stage}/{name}'
            if plan.kept is not None and array.size > plan.kept:
                array = array.ravel()[places(key, array.size, plan.kept)]
            found[key] = array

    start = net.arrays()
    keep('eval', net.forward(plan.inputs, train=False, nodes=nodes))
    values = net.forward(plan.inputs, train=True, nodes=False)
    keep('train', values)
    gradients = net.backward(loss(values, plan)[1])
    keep('gradient', gradients)
    learn = [name for name in net.parameters if name not in plan.held]
    after = net.arrays()
    keep('statistic', {name: after[name] for name in after if name not in net.parameters})
    net.set_arrays(start)
    if plan.steps:
        rate = safe_rate(net, plan) if plan.rate is None else plan.rate
        velocity = {name: np.zeros_like(start[name]) for name in learn}
        for _ in range(plan.steps):
            values = net.forward(plan.inputs, train=True, nodes=False)
            gradients = net.backward(loss(values, plan)[1])
            now = net.arrays()
            for name in learn:
                slope = gradients[name].reshape(now[name].shape) + plan.decay * now[name]
                velocity[name] = plan.momentum * velocity[name] + slope
                now[name] = now[name] - rate * velocity[name]
            net.set_arrays({name: now[name] for name in learn})
        keep('steps', net.arrays())
        keep('steps', net.forward(plan.inputs, train=False, nodes=False))
        net.set_arrays(start)
    return found


def safe_rate(net: GraphNet, plan: Plan) -> float:
    """Return a learning rate with which the steps go on for long: a power of 2, at most 0.01.

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
    if not fastest > 0:
        return 0.01
    return min(0.01, float(2.0 ** np.floor(np.log2(0.01 / max(fastest, 1e-12)))))


def disturb(arrays: Mapping[str, NDArray[Any]], size: float = ULP) -> Arrays:
    """Return arrays each of whose values is changed by one unit in the last place, up or down."""
    draws = np.random.RandomState(7)
    return {
        name: array * (1 + size * (2 * draws.randint(2, size=array.shape) - 1))
        for name, array in sorted(arrays.items())
    }


def observe_single(make: Maker, plan: Plan) -> tuple[Arrays, Arrays]:
    """Return the outputs in float32, in inference, and those of a net with disturbed weights."""
    net = make('float32')
    values = net.forward(plan.inputs, train=False, nodes=False)
    net.set_arrays(disturb(net.arrays(), ULP_SINGLE))
    return values, net.forward(plan.inputs, train=False, nodes=False)


def prelu_slopes(text: str) -> list[str]:
    """Return the slopes of a symbol's PReLUs, whose gradient MXNet computes wrongly in a graph."""
    nodes = json.loads(text)['nodes']
    found = []
    for node in nodes:
        attributes = node.get('attrs') or node.get('attr') or node.get('param') or {}
        if node['op'] == 'LeakyReLU' and attributes.get('act_type') == 'prelu':
            found.append(nodes[node['inputs'][1][0]]['name'])
    return found


def write_down(make: Maker, text: str, plan: Plan, facts: Mapping[str, Any]) -> Arrays:
    """Return all that a proof asks of MXNet's net, as the arrays of an .npz file.

    Args:
        make: Makes MXNet's net.
        text: The JSON of its symbol, in which PReLUs are looked for: their slopes are held.
        plan: What is computed.
        facts: What else a reader is told: files, versions.

    Returns:
        'input/NAME', 'single/NAME' and 'near/NAME' (see ``observe_single``), 'observed/KEY' (see
        ``observe``), and 'facts': JSON as bytes.
    """
    held = sorted(plan.held.union(prelu_slopes(text)))
    error, parameters, observed = None, [], {}
    values, near = observe_single(make, plan)
    try:
        net = make('float64')
        parameters = list(net.parameters)
        plan = plan._replace(held=frozenset(held), rate=safe_rate(net, plan))
        observed = observe(net, plan)
    except ModelError as caught:  # an operator that is not computed in float64
        error = str(caught)
    numbers = {key: getattr(plan, key) for key in ('steps', 'rate', 'momentum', 'decay', 'seed')}
    told = dict(
        facts,
        format=FORMAT,
        plan=dict(numbers, kept=plan.kept, outputs=list(plan.outputs), held=held),
        parameters=parameters,
        error=error,
    )
    found = {'facts': np.frombuffer(json.dumps(told).encode(), np.uint8)}
    for start, arrays in (
        ('input', plan.inputs), ('single', values), ('near', near), ('observed', observed),
    ):  # fmt: skip
        found.update({f'{start}/{name}': array for name, array in arrays.items()})
    return found
