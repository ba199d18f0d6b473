"""Let MXNet 1.9.1 and GluonCV 0.10.5 start on today's Python and NumPy.

    import d2l_ft_mxnet.today  # before  import mxnet

or, without a change to a script,  ``python -m d2l_ft_mxnet.today script.py [args]``.

What stops MXNet is names: NumPy has removed some twenty that it uses, and CPython 3.12 the module
``distutils``. They are given to the modules of MXNet and GluonCV alone: in these, ``import numpy``
gives a view of NumPy that has the names too. NumPy itself is not touched, so no other package
sees them. In a few of these modules a line is read in today's words (``SOURCES``). GluonCV also
takes PyTorch 2 for an error; it is told that there is no PyTorch, as its MXNet side does not need
it.

Where nothing is missing, nothing is done. This file needs the standard library alone, so it may be
copied beside a script. docs/mxnet-today.md has what was tried.
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
"""The packages that get the names."""

GLUONCV_CHECK = 'gluoncv.check'
"""Where GluonCV looks at the versions of the frameworks."""

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
"""Removed by NumPy 2.0: name -> the name that is left."""

FUNCTIONS = {
    'alltrue': 'all',
    'cumproduct': 'cumprod',
    'product': 'prod',
    'round_': 'round',
    'row_stack': 'vstack',
    'sometrue': 'any',
    'trapz': 'trapezoid',
}
"""Removed by NumPy 2.0 and later: name -> the function that is left."""

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
    # the method was another name of tobytes until NumPy 2.3
    'mxnet.recordio': {'.tostring()': '.tobytes()'},
    # before NumPy 2, Python's 0.0 and a float32 made a float64: so MXNet adds up its metrics
    'mxnet.metric': {
        'self.sum_metric = 0.0': 'self.sum_metric = numpy.float64(0)',
        'self.global_sum_metric = 0.0': 'self.global_sum_metric = numpy.float64(0)',
        'loss = 0.': 'loss = numpy.float64(0)',
    },
}
"""Module -> what its source says -> what it says in today's NumPy."""

FINANCIAL = ('fv', 'ipmt', 'irr', 'mirr', 'nper', 'npv', 'pmt', 'ppmt', 'pv', 'rate')
"""Removed by NumPy 1.20, which kept functions that raise an error until 2.0."""


def removed_functions(numpy: Any) -> dict[str, Any]:
    """Return name -> a function that does what NumPy's did.

    Each is a function of its own, as MXNet keeps a table by function: an alias would replace the
    entry of the function that it stands for. As NumPy's own do, they let an array of another kind
    answer itself.
    """

    def of_numpy(name: str, today: Any) -> Any:
        def function(*args: Any, **options: Any) -> Any:
            for each in (*args, *options.values()):
                answer = getattr(type(each), '__array_function__', None)
                if answer is not None and not isinstance(each, numpy.ndarray):
                    return answer(each, function, (type(each),), args, options)
            return today(*args, **options)

        function.__name__ = function.__qualname__ = name
        return function

    def financial(name: str) -> Any:
        def function(*_: Any, **__: Any) -> Any:
            raise RuntimeError(f'NumPy has no {name}() any more: use the package numpy-financial')

        function.__name__ = function.__qualname__ = name
        return function

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
            if hasattr(numpy, now)  # trapezoid is of NumPy 2, which is where trapz is wanted
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
    """NumPy as MXNet knows it: whatever NumPy has, and the names that it has no more."""

    def __init__(self, numpy: Any, given: dict[str, Any]) -> None:
        super().__init__('numpy', numpy.__doc__)
        vars(self).update(given)
        self._numpy = numpy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numpy, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._numpy), *vars(self)})


def missing_names(numpy: Any) -> dict[str, Any]:
    """Return what NumPy lacks, or has in another meaning: name -> what MXNet shall find there."""
    wanted = {
        **CONSTANTS,
        **{name: getattr(numpy, now) for name, now in TYPES.items()},
        **removed_functions(numpy),
        'compat': types.SimpleNamespace(basestring=str),
    }
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a name that is only deprecated is there
        lacks = {name: each for name, each in wanted.items() if not hasattr(numpy, name)}
        if getattr(numpy, 'bool', bool) is not bool:
            lacks['bool'] = bool
    if Version(numpy.__version__) >= '2':
        lacks['array'] = wrapping_array(numpy)
        tuples = types.SimpleNamespace(
            normalize_axis_tuple=numpy.lib.array_utils.normalize_axis_tuple
        )
        lacks['core'] = types.SimpleNamespace(numeric=tuples)  # NumPy 2 warns of the name
    return lacks


@functools.total_ordering
class Version:
    """A version as ``distutils.version`` compared it, for versions that are numbers."""

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
    """Return the two classes of ``distutils.version`` that MXNet and GluonCV compare with."""
    module = types.ModuleType('distutils.version')
    vars(module).update(LooseVersion=Version, StrictVersion=Version)
    return module


def has_distutils() -> bool:
    """Tell whether the module is there; setuptools may provide it."""
    return importlib.util.find_spec('distutils') is not None


def refuse_pytorch_2(theirs: Any) -> Any:
    """Return GluonCV's check of PyTorch's version, with the error that GluonCV expects of it.

    Its callers do without PyTorch after an ImportError; its check raises RuntimeError. PyTorch is
    not imported to know its version.
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
    """Return ``str(value)`` as it was before NumPy 2, which writes its numbers with their type."""
    text = str(value)
    if isinstance(value, str) or 'np.' not in text:
        return text
    return re.sub(r'np\.(?:\w+\(([^()]*)\)|(True|False)_)', r'\1\2', text)


class Loader(importlib.machinery.SourceFileLoader):
    """Run a module of MXNet or GluonCV with an ``import`` of its own.

    Args:
        name: Of the module.
        path: Of its file.
        names: The built-in names for it; None leaves them as they are.
    """

    def __init__(self, name: str, path: str, names: dict[str, Any] | None) -> None:
        super().__init__(name, path)
        self.names = names

    def get_code(self, fullname: str) -> types.CodeType | None:
        """Return the module's code; what is changed is compiled anew and stored nowhere."""
        changes = SOURCES.get(fullname)
        if self.names is None or not changes:
            return super().get_code(fullname)
        source = self.get_source(fullname) or ''  # a loader of files returns no None
        for theirs, ours in changes.items():
            source = source.replace(theirs, ours)
        return compile(source, self.path, 'exec', dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module."""
        if self.names is not None:
            vars(module)['__builtins__'] = self.names  # Python takes __import__ from there
        super().exec_module(module)
        if module.__name__ == GLUONCV_CHECK:
            check = vars(module)['_require_pytorch_version']
            vars(module)['_require_pytorch_version'] = refuse_pytorch_2(check)


class Finder:
    """Find the modules of MXNet and GluonCV, so that ``Loader`` runs those that need it."""

    @functools.cached_property
    def names(self) -> dict[str, Any] | None:
        """The built-in names for these modules; None where nothing is missing."""
        return special_builtins() if what_is_missing() else None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module that needs it; None leaves it to the other finders."""
        if name.partition('.')[0] not in PACKAGES:
            return None
        if name != GLUONCV_CHECK and self.names is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = Loader(spec.loader.name, spec.loader.path, self.names)
        return spec


def special_builtins() -> dict[str, Any]:
    """Return Python's built-in names, with the ``__import__`` that ``Loader`` gives to a module."""
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
    """Return what MXNet and GluonCV would look for here in vain, as dotted names."""
    import numpy

    lines = [] if has_distutils() else ['distutils.version']
    return lines + [f'numpy.{name}' for name in sorted(missing_names(numpy))]


def prepare() -> None:
    """Make the coming imports of MXNet and GluonCV find what they need; again does nothing.

    An import that failed before, in a notebook say, leaves some of its modules behind: they are
    forgotten, so that they get the names too.
    """
    if not any(isinstance(each, Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, Finder())
    for package in PACKAGES:
        if package not in sys.modules:
            for name in [each for each in sys.modules if each.startswith(f'{package}.')]:
                del sys.modules[name]


prepare()
