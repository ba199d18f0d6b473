"""Let MXNet 1.9.1 and GluonCV 0.10.5 start on today's Python and NumPy.

    import d2l_ft_mxnet.today  # before  import mxnet

or, without a change to a script,  ``python -m d2l_ft_mxnet.today script.py [args]``.

MXNet fails because names are missing: NumPy has removed about twenty that it uses, and CPython 3.12
the module ``distutils``. Only the modules of MXNet and GluonCV get them: there, ``import numpy``
returns a view of NumPy that has these names too. NumPy itself is not changed, so no other package
sees them. In a few of these modules some code is replaced (``SOURCES``). GluonCV also raises an
error if PyTorch 2 is installed; it is told that there is no PyTorch, which its MXNet side does not
need.

If nothing is missing, nothing is changed. This file needs only the standard library, so it may be
copied to the folder of a script. docs/mxnet-today.md lists what was tested.
"""

import builtins
import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Any

PACKAGES = ('mxnet', 'gluoncv')
"""The packages whose modules get the missing names."""

GLUONCV_CHECK = 'gluoncv.check'
"""The module in which GluonCV checks the versions of the frameworks."""

CONSTANTS: dict[str, Any] = {
    'Inf': float('inf'),
    'NAN': float('nan'),
    'NINF': float('-inf'),
    'NZERO': -0.0,
    'NaN': float('nan'),
    'PINF': float('inf'),
    'PZERO': 0.0,
    'bool': bool,  # NumPy 2 has the name again, for its scalar type: MXNet means Python's
    'complex': complex,
    'float': float,
    'infty': float('inf'),
    'int': int,
    'object': object,
    'str': str,
}
"""Removed by NumPy 1.24 (the types) and 2.0 (the numbers)."""

TYPES = {'complex_': 'complex128', 'float_': 'float64', 'string_': 'bytes_', 'unicode_': 'str_'}
"""Removed by NumPy 2.0: name -> its name today."""

FUNCTIONS = {
    'alltrue': 'all',
    'cumproduct': 'cumprod',
    'product': 'prod',
    'round_': 'round',
    'row_stack': 'vstack',
    'sometrue': 'any',
    'trapz': 'trapezoid',
}
"""Removed by NumPy 2.0 and later: name -> the function of today."""

SOURCES = {
    # operators get their arguments as text; NumPy 2 writes (np.int64(3),) where 1 wrote (3,)
    'mxnet._ctypes.ndarray': {'[str(s) for': '[plain_text(s) for'},
    'mxnet._ctypes.symbol': {
        '[str(s) for': '[plain_text(s) for',
        '[str(v) for': '[plain_text(v) for',
    },
    'mxnet.symbol.symbol': {
        'c_str(str(value))': 'c_str(plain_text(value))',
        "['__shape__'] = str(shape)": "['__shape__'] = plain_text(shape)",
        'attr[k] = str(v)': 'attr[k] = plain_text(v)',
    },
    # tostring was an alias of tobytes until NumPy 2.3
    'mxnet.recordio': {'.tostring()': '.tobytes()'},
    # before NumPy 2, Python's 0.0 plus a float32 was a float64, which MXNet's metrics rely on
    'mxnet.metric': {
        'self.sum_metric = 0.0': 'self.sum_metric = numpy.float64(0)',
        'self.global_sum_metric = 0.0': 'self.global_sum_metric = numpy.float64(0)',
        'loss = 0.': 'loss = numpy.float64(0)',
    },
}
"""Module -> text of its source -> the text that replaces it."""

FINANCIAL = ('fv', 'ipmt', 'irr', 'mirr', 'nper', 'npv', 'pmt', 'ppmt', 'pv', 'rate')
"""Removed by NumPy 1.20, which kept functions that raise an error until 2.0."""


def removed_functions(numpy: Any) -> dict[str, Any]:
    """Return name -> a function that does what the one of NumPy did.

    Each is a new function, not an alias: MXNet has a table with functions as keys, in which an
    alias would replace the entry of today's function. Like NumPy's functions they call
    ``__array_function__`` of an array of another class.
    """

    # How a function is made of one of today's
    def of_numpy(name: str, today: Any) -> Any:
        def function(*args: Any, **options: Any) -> Any:
            for each in (*args, *options.values()):
                answer = getattr(type(each), '__array_function__', None)
                if answer is not None and not isinstance(each, numpy.ndarray):
                    return answer(each, function, (type(each),), args, options)
            return today(*args, **options)

        function.__name__ = function.__qualname__ = name
        return function

    # Functions that NumPy no longer has: MXNet only needs the names
    def financial(name: str) -> Any:
        def function(*_: Any, **__: Any) -> Any:
            raise RuntimeError(f'NumPy has no {name}() any more: use the package numpy-financial')

        function.__name__ = function.__qualname__ = name
        return function

    # Functions that today's NumPy has under no name
    def asfarray(a: Any, dtype: Any = numpy.float64) -> Any:
        kind = numpy.dtype(dtype)
        return numpy.asarray(a, kind if numpy.issubdtype(kind, numpy.inexact) else numpy.float64)

    def in1d(
        ar1: Any,
        ar2: Any,
        assume_unique: bool = False,  # noqa: FBT001, FBT002 -- NumPy's signature
        invert: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        return numpy.isin(numpy.ravel(ar1), ar2, assume_unique, invert)

    def msort(a: Any) -> Any:
        return numpy.sort(a, axis=0)

    return {
        **{
            name: of_numpy(name, getattr(numpy, now))
            for name, now in FUNCTIONS.items()
            if hasattr(numpy, now)  # only NumPy 2 has trapezoid, and only there trapz is missing
        },
        **{name: financial(name) for name in FINANCIAL},
        **{each.__name__: of_numpy(each.__name__, each) for each in (asfarray, in1d, msort)},
    }


def wrapping_array(numpy: Any) -> Any:
    """Return ``numpy.array``, with integers that wrap as they did before NumPy 2.

    ``mx.nd.array([-1], dtype='uint8')`` is 255 in MXNet; NumPy 2 refuses it.
    """

    @functools.wraps(numpy.array)
    def array(object: Any, dtype: Any = None, **options: Any) -> Any:
        try:
            return numpy.array(object, dtype, **options)
        except OverflowError:
            if dtype is None:
                raise
        whole = numpy.array(object, **options)
        if whole.dtype.kind == 'f':
            whole = whole.astype(numpy.int64)
        return whole.astype(dtype)

    return array


class NumpyView(types.ModuleType):
    """NumPy as MXNet expects it: all that NumPy has, and the names that were removed."""

    def __init__(self, numpy: Any, given: dict[str, Any]) -> None:
        super().__init__('numpy', numpy.__doc__)
        vars(self).update(given)
        self._numpy = numpy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numpy, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._numpy), *vars(self)})


def missing_names(numpy: Any) -> dict[str, Any]:
    """Return name -> value for the names that NumPy lacks, or has with another meaning."""
    wanted = {
        **CONSTANTS,
        **{name: getattr(numpy, now) for name, now in TYPES.items()},
        **removed_functions(numpy),
        'compat': types.SimpleNamespace(basestring=str),
    }
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # looking up a deprecated name warns
        lacks = {name: each for name, each in wanted.items() if not hasattr(numpy, name)}
        if getattr(numpy, 'bool', bool) is not bool:
            lacks['bool'] = bool
    if Version(numpy.__version__) >= '2':
        lacks['array'] = wrapping_array(numpy)
        tuples = types.SimpleNamespace(
            normalize_axis_tuple=numpy.lib.array_utils.normalize_axis_tuple
        )
        lacks['core'] = types.SimpleNamespace(numeric=tuples)  # NumPy 2 warns when it is used
    return lacks


@functools.total_ordering
class Version:
    """A version that compares as in ``distutils.version``, by its numbers."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.version = [int(part) for part in re.findall(r'\d+', text)]

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.text!r})'

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return self.version == self._of(other)

    def __lt__(self, other: Any) -> bool:
        return self.version < self._of(other)

    @staticmethod
    def _of(other: Any) -> list[int]:
        return (other if isinstance(other, Version) else Version(str(other))).version


def distutils_version() -> types.ModuleType:
    """Return a ``distutils.version`` with the two classes that MXNet and GluonCV use."""
    module = types.ModuleType('distutils.version')
    vars(module).update(LooseVersion=Version, StrictVersion=Version)
    return module


def has_distutils() -> bool:
    """Tell whether ``distutils`` can be imported; setuptools may provide it."""
    return importlib.util.find_spec('distutils') is not None


def refuse_pytorch_2(theirs: Any) -> Any:
    """Return GluonCV's check of PyTorch's version, but with the error that its callers expect.

    The check raises RuntimeError; its callers continue without PyTorch only after an ImportError.
    The version is read without importing PyTorch.
    """

    def check(*args: Any, **options: Any) -> Any:
        try:
            version = importlib.metadata.version('torch')
        except importlib.metadata.PackageNotFoundError:
            return theirs(*args, **options)
        if Version(version) >= '2':
            raise ImportError(f'GluonCV knows no PyTorch {version}; its MXNet side needs none')
        return theirs(*args, **options)

    return check


def plain_text(value: Any) -> str:
    """Return ``str(value)`` as before NumPy 2, which shows numbers in a tuple with their type."""
    text = str(value)
    if isinstance(value, str) or 'np.' not in text:
        return text
    return re.sub(r'np\.(?:\w+\(([^()]*)\)|(True|False)_)', r'\1\2', text)


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module of MXNet or GluonCV with a special ``__import__``.

    Args:
        name: Name of the module.
        path: Path of its file.
        names: Built-in names for it; None leaves Python's.
    """

    def __init__(self, name: str, path: str, names: dict[str, Any] | None) -> None:
        super().__init__(name, path)
        self.names = names

    def get_code(self, fullname: str) -> types.CodeType | None:
        """Return the module's code; changed code is compiled each time and never stored."""
        changes = SOURCES.get(fullname)
        if self.names is None or not changes:
            return super().get_code(fullname)
        source = self.get_source(fullname) or ''  # it is never None for a file
        for theirs, ours in changes.items():
            source = source.replace(theirs, ours)
        return compile(source, self.path, 'exec', dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module."""
        if self.names is not None:
            vars(module)['__builtins__'] = self.names  # import statements get __import__ from it
        super().exec_module(module)
        if module.__name__ == GLUONCV_CHECK:
            check = vars(module)['_require_pytorch_version']
            vars(module)['_require_pytorch_version'] = refuse_pytorch_2(check)


class Finder:
    """Finds the modules of MXNet and GluonCV and lets ``Loader`` load those that need it."""

    @functools.cached_property
    def names(self) -> dict[str, Any] | None:
        """The built-in names for these modules; None if nothing is missing."""
        return special_builtins() if what_is_missing() else None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module that needs ``Loader``; None for all others."""
        if name.partition('.')[0] not in PACKAGES:
            return None
        if name != GLUONCV_CHECK and self.names is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = Loader(spec.loader.name, spec.loader.path, self.names)
        return spec


def special_builtins() -> dict[str, Any]:
    """Return Python's built-in names, with an ``__import__`` that provides the missing names."""
    import numpy

    view = NumpyView(numpy, missing_names(numpy))
    version = distutils_version()

    def special_import(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        if name == 'distutils.version' and fromlist and not has_distutils():
            return version
        module = builtins.__import__(name, globals, locals, fromlist, level)
        return view if module is numpy else module

    return {**vars(builtins), '__import__': special_import, 'plain_text': plain_text}


def what_is_missing() -> list[str]:
    """Return the dotted names that MXNet and GluonCV need and this installation lacks."""
    import numpy

    lines = [] if has_distutils() else ['distutils.version']
    return lines + [f'numpy.{name}' for name in sorted(missing_names(numpy))]


def prepare() -> None:
    """Make later imports of MXNet and GluonCV work; a second call does nothing.

    If an earlier import has failed, in a notebook for example, some of its modules remain in
    ``sys.modules``. They are removed, so that they are loaded again with the names.
    """
    if not any(isinstance(each, Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, Finder())
    for package in PACKAGES:
        if package not in sys.modules:
            for name in [each for each in sys.modules if each.startswith(f'{package}.')]:
                del sys.modules[name]


prepare()
