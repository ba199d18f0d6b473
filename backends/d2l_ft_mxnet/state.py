"""Parameters, running statistics and momentum as NumPy arrays under canonical names."""

from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import Block, Parameter
from mxnet.gluon.parameter import DeferredInitializationError
from numpy.typing import NDArray

from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_names import canonical_names
from d2l_ft.models.state import State, check_state
from d2l_ft_mxnet.placement import Placed, average_statistics, parameters
from d2l_ft_mxnet.semantics import array, made_in_numpy, semantics


def canonical_parameters(net: Block) -> dict[str, Parameter]:
    """Return canonical name -> parameter or running statistic.

    The constant scale and shift of a BatchNorm that does not learn them are left out. A net that
    is not ours keeps Gluon's structural names, with gamma and beta called weight and bias.
    """
    if (stored := getattr(net, 'd2l_stored', None)) is not None:  # a ConvertedNet
        found: dict[str, Parameter] = stored
        return found
    arch = getattr(net, 'd2l_arch', None)
    ends = ('running_mean', 'running_var')
    state = {
        name: parameter
        for name, parameter in parameters(net).items()
        if parameter._differentiable or name.endswith(ends)
    }
    return {ours: state[theirs] for ours, theirs in canonical_names(state, arch).items()}


def to_array(array: mx.nd.NDArray) -> NDArray[Any]:
    """Wait for an array; return a C-order copy, float64 if it is float64, float32 otherwise."""
    dtype = np.float64 if np.dtype(array.dtype) == np.float64 else np.float32
    return np.array(array.asnumpy(), dtype=dtype, order='C')


def get_state(placed: Placed) -> State:
    """Return a copy of every parameter and running statistic.

    All contexts get the mean of their running statistics first, so that a run that goes on and one
    that resumes from this state take the same steps.

    Returns:
        Canonical name -> C-order array, float32 (float64 for a float64 net).

    Raises:
        ModelError: The net is not initialised, or has not seen a batch to infer its shapes.
    """
    net = check_initialised(placed.net)
    average_statistics(net)
    # while a Deconvolution computes, its weight lies with two axes swapped, and the engine, which
    # knows of no write, would let it be read
    mx.nd.waitall()
    return {
        name: to_array(parameter.list_data()[0])
        for name, parameter in canonical_parameters(net).items()
    }


def check_initialised(net: Block) -> Block:
    """Return the net if all of its parameters have values.

    Raises:
        ModelError: One has none; it names the first.
    """
    for name, parameter in parameters(net).items():
        try:
            parameter.list_data()
        except DeferredInitializationError as error:
            raise ModelError(
                f'the shape of {name!r} is not known: run a batch through the net first'
            ) from error
        except RuntimeError as error:
            raise ModelError(f'{name!r} has no values: call net.initialize() first') from error
    return net


def set_state(placed: Placed, state: Mapping[str, NDArray[Any]]) -> None:
    """Set every parameter and running statistic on every context, all or nothing.

    Raises:
        ModelError: A name or shape is missing, unknown or different.
    """
    write_state(placed.net, state)


def write_state(net: Block, state: Mapping[str, NDArray[Any]]) -> None:
    """Set every parameter and running statistic of a net, all or nothing.

    Raises:
        ModelError: A name or shape is missing, unknown or different.
    """
    wanted = canonical_parameters(check_initialised(net))
    check_state(state, {name: each.shape for name, each in wanted.items()})
    numpy = bool(made_in_numpy(net))
    with semantics(numpy=numpy):
        for name, parameter in wanted.items():
            parameter.set_data(new_array(state[name], parameter, numpy=numpy))


def new_array(values: NDArray[Any], like: Parameter, *, numpy: bool = False) -> mx.nd.NDArray:
    """Return a copy of values on a parameter's first context, in its dtype."""
    return array(
        np.ascontiguousarray(values), numpy=numpy, ctx=like.list_ctx()[0], dtype=like.dtype
    )


def updaters(trainer: gluon.Trainer) -> list[Any]:
    """Return the objects with a trainer's velocities: the KVStore's, or one for each context."""
    if trainer._kvstore is not None and trainer._update_on_kvstore:
        return [trainer._kvstore._updater]
    return list(trainer._updaters)


def trainer_parameters(net: Block, trainer: Any) -> dict[str, tuple[Parameter, int]]:
    """Return canonical name -> (parameter, its index in the trainer) for the trained parameters.

    Raises:
        ModelError: The trainer is not SGD, or has a parameter that is not the net's.
    """
    optimizer = trainer._optimizer if isinstance(trainer, gluon.Trainer) else trainer
    if not isinstance(optimizer, mx.optimizer.SGD):
        raise ModelError(
            f'the state of {type(optimizer).__name__} cannot be stored for both frameworks: use SGD'
        )
    # the first name of a shared parameter counts
    names = {id(each): name for name, each in reversed(canonical_parameters(net).items())}
    trained = [
        (index, each) for index, each in enumerate(trainer._params) if each.grad_req != 'null'
    ]
    if any(id(each) not in names for _, each in trained):
        raise ModelError('the trainer has a parameter that is not of this net')
    return {names[id(each)]: (each, index) for index, each in trained}


def get_trainer_state(placed: Placed, trainer: Any) -> State:
    """Return the trainer's state: the velocity of each parameter.

    Gluon's arrays have what the last step added to the weight; here the sign is the opposite.

    Returns:
        Canonical name -> velocity, float32 (float64 for a float64 net): what the last step
        subtracted from the weight, including the learning rate. ``{}`` before the first step and
        without momentum.

    Raises:
        ModelError: The trainer is not SGD, or not of this net.
    """
    trained = trainer_parameters(placed.net, trainer)
    kept = updaters(trainer)[0].states
    if all(kept.get(index) is None for _, index in trained.values()):
        return {}
    return {
        name: np.zeros_like(to_array(parameter.list_data()[0]))
        if kept.get(index) is None
        else -to_array(kept[index])
        for name, (parameter, index) in trained.items()
    }


def set_trainer_state(placed: Placed, trainer: Any, state: Mapping[str, NDArray[Any]]) -> None:
    """Restore the result of ``get_trainer_state``; ``{}`` clears the trainer's state.

    Raises:
        ModelError: A name or shape does not fit, the trainer is not SGD or not of this net, or
            has no momentum to restore.
    """
    trained = trainer_parameters(placed.net, trainer)
    if state:
        if not trainer._optimizer.momentum:
            raise ModelError('the state has velocities, but the trainer has no momentum')
        check_state(state, {name: each.shape for name, (each, _) in trained.items()})
    if not trainer._kv_initialized:
        with semantics(numpy=bool(made_in_numpy(placed.net))):
            trainer._init_kvstore()
    for updater in updaters(trainer):
        for name, (parameter, index) in trained.items():
            updater.states.pop(index, None)
            updater.states_synced.pop(index, None)
            if state:
                # Gluon's updater computes with legacy arrays, whichever class the weight has
                with semantics(numpy=False):
                    updater.states[index] = new_array(-state[name], parameter)
                # False: the updater copies it to the weight's context when it first uses it
                updater.states_synced[index] = False
