"""The public names, with the framework chosen by the import line, as the book chooses it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import d2l_ft
from d2l_ft import _NAMES
from d2l_ft.backend.registry import get_backend

WITH_BACKEND = (
    'fine_tune', 'load_run', 'load_source', 'pretrained_net', 'resnet18', 'try_all_gpus', 'try_gpu',
)  # fmt: skip
"""Functions that take a ``backend``; the others take a net, whose class tells the framework."""


def names_of(name: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` for a module such as ``d2l_ft.torch``.

    Args:
        name: The name of the backend. Its framework is loaded when a name that needs it is first
            used.
    """
    names = ['__version__', *_NAMES]

    def find(attribute: str) -> Any:
        if attribute not in names:
            raise AttributeError(f'd2l_ft has no name {attribute!r}')
        value = getattr(d2l_ft, attribute)
        if attribute == 'get_backend':
            return functools.partial(value, name)
        if attribute not in WITH_BACKEND:
            return value

        signature = inspect.signature(value)

        # an explicit backend wins, also one that is given by position
        @functools.wraps(value)
        def with_backend(*args: Any, **options: Any) -> Any:
            if 'backend' not in signature.bind_partial(*args, **options).arguments:
                options['backend'] = get_backend(name)
            return value(*args, **options)

        return with_backend

    return names, find, lambda: sorted(names)
