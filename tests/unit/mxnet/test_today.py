"""MXNet on today's Python and NumPy: what it is given, and that nobody else gets it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace

import d2l_ft_mxnet.today as today
import numpy as np
import pytest
from d2l_ft_mxnet.today.__main__ import describe
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

pytestmark = [
    pytest.mark.needs('mxnet'),
    pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning'),
]
"""NumPy warns of old names that it still has; a test below asks for them."""

ROOT = Path(__file__).parents[3]
HERE = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'backends')])}
NUMPY_2 = Version(np.__version__) >= Version('2')


def run(*words, cwd, ok=True, environment=None):
    """Run Python with some words; return its output, or its exit code and error."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', *words], cwd=cwd, env=environment or HERE,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ok:
        assert done.returncode == 0, done.stderr
        return done.stdout
    return done.returncode, done.stderr


def script(folder, text, name='old.py'):
    """Write a script; return its path."""
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


# Nobody else


def test_nothing_stays_in_numpy(tmp_path):
    """Its namespace is the same after the imports and after use, in all its modules."""
    old = script(
        tmp_path,
        """
        import sys
        import numpy, numpy.testing, numpy.linalg, numpy.fft, numpy.random
        import scipy.sparse, matplotlib.pyplot, pandas
        modules = {n: m for n, m in sys.modules.items() if n.split('.')[0] == 'numpy'}
        def seen():
            return {n: {k: id(v) for k, v in vars(m).items()} for n, m in modules.items()}
        before = seen()
        import d2l_ft_mxnet.today
        import mxnet as mx, gluoncv
        mx.np.array([1, 2])[mx.np.array([True, False])]
        gluoncv.model_zoo.get_model('resnet18_v1b')
        after = seen()
        keep = ('__warningregistry__',)
        for name, names in before.items():
            now = {k: v for k, v in after[name].items() if k not in keep}
            then = {k: v for k, v in names.items() if k not in keep}
            # Python notes a submodule in its package when somebody imports it
            added = {k for k in now.keys() - then.keys() if f'{name}.{k}' not in sys.modules}
            changed = {k for k in then.keys() & now.keys() if then[k] != now[k]}
            assert not added and not changed, (name, added, changed)
        import builtins
        assert not hasattr(builtins, 'plain_text') and __import__ is builtins.__import__
        import importlib.util
        assert 'distutils.version' not in sys.modules or importlib.util.find_spec('distutils')
        """,
    )
    run(str(old), cwd=tmp_path)


def test_other_modules_do_not_see_the_names(tmp_path):
    """Not even one that is imported from within MXNet's import, or in a thread beside it."""
    script(
        tmp_path,
        """
        import numpy
        def sees():
            import numpy as inner
            return [n for n in ('PZERO', 'alltrue') if n in vars(numpy) or n in vars(inner)]
        view = type(numpy).__name__
        """,
        'bystander.py',
    )
    script(tmp_path, 'import numpy\nview = type(numpy).__name__\n', 'threaded.py')
    # requests is what MXNet's gluon.utils imports: this one imports the bystander
    script(tmp_path, 'import bystander\n', 'graphviz.py')
    old = script(
        tmp_path,
        """
        import sys, threading, time
        import d2l_ft_mxnet.today, numpy
        def beside():
            while 'mxnet.base' not in sys.modules:
                time.sleep(0.001)
            import threaded
        thread = threading.Thread(target=beside)
        thread.start()
        import mxnet
        import graphviz
        thread.join()
        import bystander, threaded
        assert bystander.view == threaded.view == 'module'
        had = [n for n in ('PZERO', 'alltrue') if n in vars(numpy)]
        assert bystander.sees() == had
        """,
    )
    run(str(old), cwd=tmp_path)


def test_where_nothing_is_missing_nothing_is_done(monkeypatch):
    monkeypatch.setattr(today, 'what_is_missing', list)
    finder = today.Finder()
    assert finder.names is None
    assert finder.find_spec('mxnet', None) is None
    assert finder.find_spec('mxnet.recordio', None) is None
    assert today.Finder().find_spec('numpy', None) is None


def test_a_module_of_mxnet_gets_the_view_and_its_own_code_is_stored_nowhere(monkeypatch, tmp_path):
    package = tmp_path / 'mxnet'
    package.mkdir()
    source = 'import numpy as onp\nfrom numpy import PZERO\nlabel = b"x"\n'
    (package / '__init__.py').write_text('')
    (package / 'recordio.py').write_text(source + 'code = "label.tostring()"\n')
    monkeypatch.setattr(today, 'what_is_missing', lambda: ['numpy.PZERO'])
    spec = today.Finder().find_spec('mxnet.recordio', [str(package)])
    module = ModuleType('mxnet.recordio')
    module.__spec__ = spec
    spec.loader.exec_module(module)
    assert str(module.PZERO) == '0.0'
    assert module.onp.mean is np.mean
    assert isinstance(module.onp, today.NumpyView)
    assert 'alltrue' in dir(module.onp)
    assert module.code == 'label.tobytes()'
    assert not (package / '__pycache__').exists()


def test_it_may_be_asked_twice():
    finders = [each for each in sys.meta_path if type(each) is today.Finder]
    today.prepare()
    assert [each for each in sys.meta_path if type(each) is today.Finder] == finders


def test_what_a_failed_import_left_behind_is_forgotten(monkeypatch):
    for package in ('mxnet', 'gluoncv'):
        for name in [each for each in sys.modules if each.partition('.')[0] == package]:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'mxnet.base', ModuleType('mxnet.base'))
    monkeypatch.setitem(sys.modules, 'mxnetwork.base', ModuleType('mxnetwork.base'))
    today.prepare()
    assert 'mxnet.base' not in sys.modules
    assert 'mxnetwork.base' in sys.modules


# What is given


def given_names():
    """Return all that could be given, whatever the installed NumPy has."""
    numpy = SimpleNamespace(**{n: getattr(np, n) for n in dir(np) if hasattr(np, n)})
    for name in (*today.CONSTANTS, *today.TYPES, *today.FUNCTIONS, 'in1d', 'msort', 'asfarray'):
        vars(numpy).pop(name, None)
    numpy.__version__ = '1.26'
    return today.missing_names(numpy)


@pytest.mark.parametrize('name', today.CONSTANTS)
def test_numbers_and_types_are_those_that_numpy_had(name):
    mine = given_names()[name]
    if hasattr(np, name) and name != 'bool':
        theirs = getattr(np, name)
        assert mine is theirs or repr(mine) == repr(theirs)
    else:
        assert isinstance(mine, (float, type))


@pytest.mark.parametrize(('name', 'now'), today.TYPES.items())
def test_types_have_their_new_name(name, now):
    assert given_names()[name] is getattr(np, now)
    assert getattr(np, name, getattr(np, now)) is getattr(np, now)


@pytest.mark.parametrize(
    ('name', 'arguments', 'wanted'),
    [
        ('alltrue', ([[1, 0], [1, 1]], 0), [True, False]),
        ('sometrue', ([[0, 0], [1, 0]], 0), [True, False]),
        ('product', ([[2, 3], [4, 5]], 1), [6, 20]),
        ('cumproduct', ([1, 2, 3],), [1, 2, 6]),
        ('round_', ([1.25, 2.75], 1), [1.2, 2.8]),
        ('row_stack', (([1, 2], [3, 4]),), [[1, 2], [3, 4]]),
        ('trapz', ([[1, 2, 3], [4, 5, 7]],), [4, 10.5]),
        ('trapz', ([1, 2, 3], [0, 2, 6]), 13.0),
        ('in1d', ([[1, 2], [3, 1]], [1, 4]), [True, False, False, True]),
        ('msort', ([[3, 1], [2, 4]],), [[2, 1], [3, 4]]),
        ('asfarray', ([1, 2],), [1.0, 2.0]),
        ('asfarray', ([1, 2], 'float32'), [1.0, 2.0]),
        ('asfarray', ([1, 2], int), [1.0, 2.0]),
    ],
)
def test_functions_do_what_numpys_did(name, arguments, wanted):
    if name == 'trapz' and not hasattr(np, 'trapezoid'):
        assert hasattr(np, 'trapz')
        return
    mine = given_names()[name](*arguments)
    theirs = getattr(np, name)(*arguments) if hasattr(np, name) else np.asarray(wanted)
    np.testing.assert_array_equal(mine, wanted)
    np.testing.assert_array_equal(mine, theirs)
    if hasattr(np, name):
        assert np.asarray(mine).dtype == theirs.dtype


def test_functions_let_an_array_of_another_kind_answer():
    class Answering:
        def __array_function__(self, function, types, args, options):
            return function.__name__, types, args, options

    array = Answering()
    assert given_names()['alltrue'](array, axis=0) == (
        'alltrue',
        (Answering,),
        (array,),
        {'axis': 0},
    )
    assert given_names()['in1d']([1], array)[0] == 'in1d'


def test_functions_of_finance_say_where_they_are():
    with pytest.raises(RuntimeError, match='numpy-financial'):
        today.removed_functions(np)['npv'](0.1, [1, 2])


@pytest.mark.parametrize(
    ('values', 'dtype', 'wanted'),
    [
        ([300, -1], 'uint8', [44, 255]),
        ([2**31], 'int32', [-(2**31)]),
        ([-1], 'uint64', [2**64 - 1]),
        ([-1.5], 'uint8', [255]),
        ([[1, 2]], 'float16', [[1, 2]]),
        (np.array([300]), 'uint8', [44]),
        (5, None, 5),
    ],
)
def test_integers_wrap_as_before_numpy_2(values, dtype, wanted):
    found = today.wrapping_array(np)(values, dtype=dtype)
    np.testing.assert_array_equal(found, wanted)
    assert dtype is None or found.dtype == dtype


def test_what_never_was_an_integer_is_refused():
    with pytest.raises(OverflowError):
        today.wrapping_array(np)([2**70], dtype='int64')


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        ((np.int64(2), np.float32(0.5), 3), '(2, 0.5, 3)'),
        ((np.bool_(True), np.bool_(False)), '(True, False)'),
        (np.float64('nan'), 'nan'),
        ([(np.int32(-1),)], '[(-1,)]'),
        ('np.int64(3)', 'np.int64(3)'),
        (None, 'None'),
        (1e-30, '1e-30'),
    ],
)
def test_numbers_are_written_without_their_type(value, text):
    assert today.plain_text(value) == text


versions = st.lists(st.integers(0, 300), min_size=1, max_size=4).map(
    lambda parts: '.'.join(map(str, parts))
)


@given(versions, versions)
def test_versions_compare_as_packaging_does(one, other):
    mine, theirs = today.Version(one), Version(other)
    # 1.0 and 1 are different to distutils, too
    if one.count('.') == other.count('.'):
        assert (mine < other) == (Version(one) < theirs)
        assert (mine == today.Version(other)) == (Version(one) == theirs)
        assert (mine >= other) == (Version(one) >= theirs)
    assert str(mine) == one
    assert repr(mine) == f"Version('{one}')"


def test_versions_with_letters():
    assert today.Version('2.14.1+cu126') >= '2'
    assert today.Version('1.13.0a0') < today.Version('2.0.0')


# What MXNet does with it


def test_mxnet_uses_the_names(tmp_path):
    old = script(
        tmp_path,
        """
        import d2l_ft_mxnet.today
        import warnings
        import mxnet as mx, numpy as np
        from mxnet import gluon
        from mxnet.gluon.contrib.estimator.event_handler import EarlyStoppingHandler
        a = mx.np.array([[1, 2], [3, 4]])
        assert mx.np.array(True).dtype in (np.float32, np.bool_)
        assert a[a > 2].asnumpy().tolist() == [3, 4]
        a[a > 3] = 0
        assert a.sum().item() == 6
        assert mx.np.full((2,), True, dtype=bool).dtype == np.bool_
        assert isinstance(np.mean(a), mx.np.ndarray) and np.mean(a).item() == 1.5
        assert isinstance(np.concatenate([a, a]), mx.np.ndarray)
        assert isinstance(np.add(a, a), mx.np.ndarray)
        assert mx.np.alltrue(a) == False and mx.np.alltrue(mx.np.ones(2)) == True
        assert mx.np.in1d(a, mx.np.array([1.])).tolist() == [True, False, False, False]
        assert mx.np.msort(a).tolist() == [[1, 0], [3, 2]]
        assert mx.np.trapz(mx.np.array([1., 2., 3.])).item() == 4
        assert mx.np.isin(a, mx.np.array([2.])).sum().item() == 1
        assert mx.np.product(a + 1).item() == 24 and mx.np.round_(a).shape == (2, 2)
        assert mx.np.row_stack([a, a]).shape == (4, 2)
        assert mx.np.pad(a, ((1, 1), (0, 0)), mode='edge').shape == (4, 2)
        assert EarlyStoppingHandler(mx.metric.Accuracy()).monitor_op is not None
        assert mx.nd.array([300, -1], dtype='uint8').asnumpy().tolist() == [44, 255]
        assert mx.nd.ones((np.int64(2), np.prod([1, 3]))).shape == (2, 3)
        assert mx.sym.var('x', shape=(np.int64(2),)).attr('__shape__') == '(2,)'
        assert mx.nd.moveaxis(mx.nd.ones((2, 3)), 0, 1).shape == (3, 2)
        metric = mx.metric.Loss()
        for value in (0.1, 0.2, 0.3):
            metric.update(None, [mx.nd.array([value])])
        exact = sum(float(np.float32(x)) for x in (0.1, 0.2, 0.3)) / 3
        assert float(metric.get()[1]) == exact and float(metric.get_global()[1]) == exact
        header = mx.recordio.IRHeader(0, [1, 2], 3, 0)
        again, data = mx.recordio.unpack(mx.recordio.pack(header, b'data'))
        assert again.label.tolist() == [1, 2] and data == b'data'
        image = np.zeros((4, 4, 3), np.uint8)
        assert mx.recordio.unpack_img(mx.recordio.pack_img(header, image))[1].shape == (4, 4, 3)
        import mxnet.test_utils
        mxnet.test_utils.assert_almost_equal(a, a.asnumpy())
        import importlib, pickle
        importlib.reload(mx.recordio)
        assert pickle.loads(pickle.dumps(a)).sum().item() == 6
        """,
    )
    run(str(old), cwd=tmp_path)


@pytest.mark.parametrize('numpy_arrays', [False, True])
def test_workers_forked_and_spawned(tmp_path, numpy_arrays):
    text = """
        import multiprocessing, sys
        import mxnet as mx
        from mxnet.gluon.data import ArrayDataset, DataLoader
        def sum_of(array):
            return float(array.asnumpy().sum()), 'd2l_ft_mxnet.today' in sys.modules
        if __name__ == '__main__':
            if sys.argv[1] == 'True':
                mx.npx.set_np()
            array = mx.np.arange(8) if sys.argv[1] == 'True' else mx.nd.arange(8)
            for workers in (0, 2):
                loader = DataLoader(ArrayDataset(array), 4, num_workers=workers)
                batches = [x.asnumpy() for x in loader]
                assert [x.tolist() for x in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]
            for method in ('spawn', 'forkserver'):
                with multiprocessing.get_context(method).Pool(1) as pool:
                    assert pool.map(sum_of, [array]) == [(28.0, True)], method
        """
    script(tmp_path, text, 'loading.py')
    words = [str(numpy_arrays)]
    run('-m', 'd2l_ft_mxnet.today', 'loading.py', *words, cwd=tmp_path)
    run('-m', 'd2l_ft_mxnet.today', '-m', 'loading', *words, cwd=tmp_path)


def test_gluoncv_does_without_pytorch(tmp_path):
    text = 'import d2l_ft_mxnet.today, gluoncv, sys; assert "torch" not in sys.modules'
    run('-c', text, cwd=tmp_path)


# python -m d2l_ft_mxnet.today

REPORT = 'import sys\nprint(sys.argv, sys.path[0], __name__, __file__)\n'


@pytest.mark.parametrize('words', [('old.py', 'a', '-b'), ('-m', 'old', 'a', '-b')])
def test_a_script_is_run_as_python_runs_it(tmp_path, words):
    script(
        tmp_path,
        REPORT + 'print(__spec__ and __spec__.name, sys.modules["__main__"].__file__)',
    )
    assert run('-m', 'd2l_ft_mxnet.today', *words, cwd=tmp_path) == run(*words, cwd=tmp_path)


@pytest.mark.parametrize(
    ('text', 'code'),
    [
        ('raise SystemExit(7)', 7),
        ('import sys; sys.exit("no")', 1),
        ('1 / 0', 1),
        ('syntax error', 1),
        ('pass', 0),
        ('import os, signal; os.kill(os.getpid(), signal.SIGINT)', -2),
    ],
)
def test_exit_codes_are_the_scripts(tmp_path, text, code):
    script(tmp_path, text)
    ours = run('-m', 'd2l_ft_mxnet.today', 'old.py', cwd=tmp_path, ok=False)
    theirs = run('old.py', cwd=tmp_path, ok=False)
    assert ours[0] == theirs[0] == code
    assert ours[1].splitlines()[-1:] == theirs[1].splitlines()[-1:]


def test_what_is_no_script(tmp_path):
    code, error = run('-m', 'd2l_ft_mxnet.today', 'gone.py', cwd=tmp_path, ok=False)
    assert (code, 'gone.py' in error, 'Traceback' in error) == (2, True, False)


def test_without_a_script_it_tells_what_is_here():
    said = describe()
    assert f'numpy {np.__version__}' in said
    assert ('numpy.PZERO' in said) == NUMPY_2


def test_the_file_alone_beside_a_script_suffices(tmp_path):
    """It needs nothing else of this package, nor the package installed."""
    (tmp_path / 'mxnet_today.py').write_text(Path(today.__file__).read_text())
    old = script(
        tmp_path,
        """
        import mxnet_today
        import mxnet as mx, sys
        assert not [n for n in sys.modules if n.startswith('d2l_ft')]
        print(mx.np.array([1, 2])[mx.np.array([2, 1]) > 1])
        """,
    )
    without = {k: v for k, v in HERE.items() if k != 'PYTHONPATH'}
    assert run(str(old), cwd=tmp_path, environment=without) == '[1.]\n'
