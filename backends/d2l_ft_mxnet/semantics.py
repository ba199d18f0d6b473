"""Legacy and NumPy semantics: compute the same under both, whatever the caller has switched on.

After ``npx.set_np()`` MXNet makes ``mx.np`` arrays instead of ``mx.nd`` ones, and its layers take
no others; the switch belongs to a thread. Half of the zoo's nets do not run under it. So nets of
ours compute in legacy semantics always, which also gives the same bits; a net of the user's
computes in the semantics in which its parameters were made. What a caller gets has his type.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import mxnet as mx
from mxnet.gluon import Block, HybridBlock

Arguments = ParamSpec('Arguments')
Result = TypeVar('Result')


def numpy_semantics() -> bool:
    """Tell whether NumPy semantics is on in this thread."""
    return bool(mx.util.is_np_array())


@contextmanager
def semantics(*, numpy: bool) -> Iterator[None]:
    """Switch to NumPy semantics or to legacy ones; afterwards it is as before."""
    before = mx.util.is_np_shape(), mx.util.is_np_array()
    if before == (numpy, numpy):
        yield
        return
    mx.util.set_np(numpy, numpy)
    try:
        yield
    finally:
        # shapes cannot be set back while arrays are NumPy's: set_np begins with the arrays
        mx.util.set_np(*before)


def in_legacy(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that computes in legacy semantics, of what needs no array of a caller."""

    @functools.wraps(function)
    def inside(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        with semantics(numpy=False):
            return function(*args, **options)

    return inside


def convert(value: Any, *, numpy: bool) -> Any:
    """Return an array or symbol in NumPy's or the legacy class, with the same memory.

    Lists and tuples are converted one by one; what is neither stays as it is.
    """
    if isinstance(value, list | tuple):
        return type(value)(convert(each, numpy=numpy) for each in value)
    if not isinstance(value, mx.nd.NDArray | mx.sym.Symbol):
        return value
    if isinstance(value, mx.np.ndarray | mx.sym.np._Symbol) == numpy:
        return value
    return value.as_np_ndarray() if numpy else value.as_nd_ndarray()


def to_caller(value: Any) -> Any:
    """Return an array in the class that this thread's semantics makes."""
    return convert(value, numpy=numpy_semantics())


def array(values: Any, *, numpy: bool, ctx: Any = None, dtype: Any = None) -> Any:
    """Return a copy of NumPy's values as an array of MXNet."""
    make = mx.np.array if numpy else mx.nd.array
    return make(values, ctx=ctx, dtype=values.dtype if dtype is None else dtype)


def made_in_numpy(net: Block) -> bool | None:
    """Tell whether a net's parameters were made in NumPy semantics; None if there are no values."""
    for parameter in net.collect_params().values():
        if parameter._data is not None:
            return isinstance(parameter._data[0], mx.np.ndarray)
    return None


def uses_numpy(net: Block) -> bool:
    """Tell whether to compute with a net in NumPy semantics.

    It is the caller's semantics for a net of ours, which runs in both, and for one without values;
    otherwise that in which the net was made.
    """
    made = None if isinstance(net, Neutral) else made_in_numpy(net)
    return numpy_semantics() if made is None else made


class Neutral:
    """Mixed into the blocks of our nets: they take and return arrays of the caller's class."""

    def __call__(self, *args: Any) -> Any:
        """Run the block in legacy semantics."""
        numpy = numpy_semantics()
        with semantics(numpy=False), legacy_parameters(self):
            outputs = super().__call__(*convert(args, numpy=False))  # type: ignore[misc]  # the block's
        return convert(outputs, numpy=numpy)


@contextmanager
def legacy_parameters(net: Any) -> Iterator[None]:
    """Give the parameters of a net legacy arrays, of the same memory, while it runs.

    A compiled graph takes both classes, so only a net that is not hybridized needs it.
    """
    if net._active or not made_in_numpy(net):
        yield
        return
    parameters = net.collect_params().values()
    kept = [(each, each._data, each._grad) for each in parameters if each._data is not None]
    for parameter, data, grad in kept:
        parameter._data, parameter._grad = convert(data, numpy=False), convert(grad, numpy=False)
    try:
        yield
    finally:
        for parameter, data, grad in kept:
            parameter._data, parameter._grad = data, grad


@functools.cache
def neutral_class(kind: type[HybridBlock]) -> type[HybridBlock]:
    """Return a subclass of a block's class, of the same name, that is ``Neutral``."""
    return type(kind.__name__, (Neutral, kind), {'__module__': kind.__module__})


def make_neutral(net: HybridBlock) -> None:
    """Let a net and all of its blocks run in both semantics."""

    def change(block: Block) -> None:
        if not isinstance(block, Neutral):
            block.__class__ = neutral_class(block.__class__)

    net.apply(change)
