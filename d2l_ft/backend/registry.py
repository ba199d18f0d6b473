"""Find the backend: the argument, else D2L_FT_BACKEND, else PyTorch; with no fallback on errors."""

import importlib
import importlib.metadata
import importlib.util
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from d2l_ft.errors import BackendBroken, BackendNotInstalled, ModelError, UnknownBackend

if TYPE_CHECKING:  # protocol imports NumPy, which --help need not load
    from d2l_ft.backend.protocol import Backend

VARIABLE = 'D2L_FT_BACKEND'

DEFAULT = 'pytorch'


@dataclass(frozen=True)
class Framework:
    """All that the core knows about a framework without loading it.

    Attributes:
        module: Import name of its backend.
        package: Import name of the framework.
        packages: The framework's packages whose versions are reported; each is imported by its
            name.
        install: The command that installs it.
        zoo: URL of the folder with its ImageNet weights.
        advice: Pairs of a pattern in the error of a failed import and what to do; the first match
            counts.
    """

    module: str
    package: str
    packages: tuple[str, ...]
    install: str
    zoo: str
    advice: tuple[tuple[str, str], ...]


BACKENDS = {
    'mxnet': Framework(
        module='d2l_ft_mxnet',
        package='mxnet',
        packages=('mxnet', 'gluoncv'),
        # MXNet's own metadata asks for an old NumPy: --no-deps
        install=(
            'pip install "d2l-ft[mxnet-needs]"  and  '
            'pip install --no-deps mxnet==1.9.1 gluoncv==0.10.5.post0'
        ),
        zoo='https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/models/',
        # any error but a lack of memory
        advice=((r'(?is)^(?!.*memory)', 'd2l-ft knows MXNet 1.9.1: see docs/mxnet-today.md'),),
    ),
    'pytorch': Framework(
        module='d2l_ft_pytorch',
        package='torch',
        packages=('torch', 'torchvision'),
        install='pip install "d2l-ft[pytorch]"',
        zoo='https://download.pytorch.org/models/',
        # a torchvision that was built for another torch
        advice=(
            (
                'torchvision|undefined symbol',
                'torch and torchvision must be a matched pair: see https://pytorch.org/get-started',
            ),
        ),
    ),
}
"""Name of a backend -> its framework."""

ENTRY_POINTS = 'd2l_ft.backends'


def hint(name: str, cause: str) -> str:
    """Return what to do about a framework that cannot be imported, judging by the cause."""
    for pattern, text in BACKENDS[name].advice:
        if re.search(pattern, cause):
            return text
    return f'the full error is in  python -c "import d2l_ft, {BACKENDS[name].module}.model"'


def backend_names() -> list[str]:
    """Return the names of all backends, installed or not."""
    others = {point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    return sorted(others | set(BACKENDS))


def backend_name(name: str | None = None) -> str:
    """Return the name of the backend to use.

    Args:
        name: The name that the caller gives; None reads D2L_FT_BACKEND.

    Raises:
        UnknownBackend: There is no such backend.
    """
    asked = (name if name is not None else os.environ.get(VARIABLE, '')).strip().casefold()
    if not asked and name is None:
        return DEFAULT
    names = backend_names()
    if asked not in names:
        origin = 'backend' if name is not None else VARIABLE
        raise UnknownBackend(f'unknown {origin} {asked!r}: choose one of {", ".join(names)}')
    return asked


def get_backend(name: 'str | Backend | None' = None) -> 'Backend':
    """Import a backend and return it.

    Args:
        name: 'mxnet', 'pytorch' or the name of an installed entry point; None reads
            D2L_FT_BACKEND at this call, which defaults to 'pytorch'. A backend is returned as it
            is.

    Raises:
        UnknownBackend: There is no such backend.
        BackendNotInstalled: Its framework is not installed.
        BackendBroken: Its framework is installed but fails at import.

    Example:
        >>> backend = d2l.get_backend('pytorch')
        >>> backend.NAME
        'pytorch'
    """
    if not (name is None or isinstance(name, str)):
        return name
    name = backend_name(name)
    if name not in BACKENDS:
        (point, *_) = importlib.metadata.entry_points(group=ENTRY_POINTS, name=name)
        return cast('Backend', point.load())
    check_installed(name)
    try:
        backend = importlib.import_module(BACKENDS[name].module)
        for each in getattr(backend, '__all__', ()):
            getattr(backend, each)  # the package may not import its framework before this
        return cast('Backend', backend)
    except Exception as error:  # a broken framework raises anything: AttributeError, OSError, ...
        cause = ' '.join(str(error).split())[:200]
        raise BackendBroken(
            f'the backend {name} cannot be imported '
            f'({type(error).__name__}: {cause}): {hint(name, cause)}'
        ) from error


def check_installed(name: str) -> None:
    """Check that the framework of a built-in backend is installed, without importing it.

    Raises:
        BackendNotInstalled: It is not.
    """
    record = BACKENDS[name]
    if not is_installed(record.package):
        raise BackendNotInstalled(
            f'the backend {name} needs {record.package}, which is not installed: '
            f'run  {record.install}'
        )


def is_installed(framework: str) -> bool:
    """Tell whether a framework can be found, without importing it."""
    try:
        return importlib.util.find_spec(framework) is not None
    except ValueError:  # sys.modules has an entry without a spec
        return False


def module_of(backend: 'Backend', name: str) -> Any:
    """Return a module of a backend's package, or None if it has none of that name."""
    full = f'{cast(Any, backend).__name__}.{name}'
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:  # the module exists, and something that it imports does not
            raise
        return None


def backend_of(net: Any) -> 'Backend':
    """Return the backend of the framework to which a net's class, or a base of it, belongs.

    Raises:
        ModelError: The net belongs to no framework that has a backend.
    """
    # the base classes count, as the user's own class lies in any module
    roots = {base.__module__.partition('.')[0] for base in type(net).__mro__}
    for name, record in BACKENDS.items():
        if roots & {record.module, record.package}:
            return get_backend(name)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        backend = cast('Backend', point.load())
        if backend.FRAMEWORK in roots:
            return backend
    raise ModelError(f'{type(net).__name__} is a net of neither {" nor ".join(BACKENDS)}')
