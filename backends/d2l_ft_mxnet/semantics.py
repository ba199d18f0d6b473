"""Legacy and NumPy semantics: compute the same with both, whichever the caller has switched on.

After ``npx.set_np()`` MXNet makes ``mx.np`` arrays instead of ``mx.nd`` ones, and its layers take
no others; the switch applies to the thread. Half of the zoo's nets do not run with it. Therefore
our nets always compute in legacy semantics, which also gives the same bits; a net of the user's
computes in the semantics in which its parameters were made. Results have the class of the caller's
semantics.
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
    """Switch to NumPy or legacy semantics, and back afterwards."""
    before = mx.util.is_np_shape(), mx.util.is_np_array()
    if before == (numpy, numpy):
        yield
        return
    mx.util.set_np(numpy, numpy)
    try:
        yield
    finally:
        # the shapes cannot be switched back before the arrays; set_np does it in that order
        mx.util.set_np(*before)


def in_legacy(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function so that it computes in legacy semantics; it gets no array of a caller."""

    @functools.wraps(function)
    def inside(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        with semantics(numpy=False):
            return function(*args, **options)

    return inside


def convert(value: Any, *, numpy: bool) -> Any:
    """Return an array or symbol in NumPy's or the legacy class, with the same memory.

    The items of lists and tuples are converted; other values are returned unchanged.
    """
    if isinstance(value, list | tuple):
        return type(value)(convert(each, numpy=numpy) for each in value)
    if not isinstance(value, mx.nd.NDArray | mx.sym.Symbol):
        return value
    if isinstance(value, mx.np.ndarray | mx.sym.np._Symbol) == numpy:
        return value
    return value.as_np_ndarray() if numpy else value.as_nd_ndarray()


def to_caller(value: Any) -> Any:
    """Return an array in the class of this thread's semantics."""
    return convert(value, numpy=numpy_semantics())


def array(values: Any, *, numpy: bool, ctx: Any = None, dtype: Any = None) -> Any:
    """Return a copy of a NumPy array as an array of MXNet."""
    make = mx.np.array if numpy else mx.nd.array
    return make(values, ctx=ctx, dtype=values.dtype if dtype is None else dtype)


def made_in_numpy(net: Block) -> bool | None:
    """Tell whether a net's parameters were made in NumPy semantics; None if there are no values."""
    # not collect_params, which is twenty times as slow: every step asks for this
    for parameter in net._collect_params_with_prefix().values():
        if parameter._data is not None:
            return isinstance(parameter._data[0], mx.np.ndarray)
    return None


def uses_numpy(net: Block) -> bool:
    """Tell whether to compute with a net in NumPy semantics.

    For our nets, which take both, and for nets without values these are the caller's semantics;
    for other nets those in which the net was made.
    """
    made = None if isinstance(net, Neutral) else made_in_numpy(net)
    return numpy_semantics() if made is None else made


class Neutral:
    """A mixin for the blocks of our nets: they take and return arrays of the caller's class."""

    def __call__(self, *args: Any) -> Any:
        """Run the block in legacy semantics."""
        numpy = numpy_semantics()
        with semantics(numpy=False), legacy_parameters(self):
            outputs = super().__call__(*convert(args, numpy=False))  # type: ignore[misc]  # the block's
        return convert(outputs, numpy=numpy)


@contextmanager
def legacy_parameters(net: Any) -> Iterator[None]:
    """Give the parameters of a net legacy arrays, with the same memory, while it runs.

    Only a net that is not hybridized needs this: a compiled graph takes both classes.
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
    """Make a net and all of its blocks run in both semantics."""

    def change(block: Block) -> None:
        if not isinstance(block, Neutral):
            block.__class__ = neutral_class(block.__class__)

    net.apply(change)
