"""The book's import line chooses the framework, whatever the environment says."""

import importlib
import inspect
import subprocess
import sys

import pytest

import d2l_ft
from d2l_ft.backend.registry import BACKENDS, VARIABLE
from d2l_ft.framework_names import WITH_BACKEND

MODULES = {'mxnet': 'd2l_ft.mxnet', 'pytorch': 'd2l_ft.torch'}


@pytest.mark.parametrize('other', BACKENDS)
def test_the_import_line_chooses_the_framework(framework, other, monkeypatch):
    monkeypatch.setenv(VARIABLE, other)
    d2l = importlib.import_module(MODULES[framework.NAME])
    assert d2l.get_backend() is framework
    assert [str(each) for each in d2l.try_all_gpus()] == [
        str(each) for each in framework.devices('auto')
    ]
    assert d2l.DATA_HUB is d2l_ft.DATA_HUB
    assert sorted(d2l_ft.__all__) == dir(d2l)
    with pytest.raises(AttributeError, match='no_such_name'):
        d2l.no_such_name  # noqa: B018


@pytest.mark.parametrize('module', MODULES.values())
def test_the_import_line_loads_no_framework(module):
    code = (
        f'import sys, {module} as d2l; d2l.train_ch13, d2l.DATA_HUB\n'
        'print(sorted({"torch", "mxnet"} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_what_is_bound_takes_a_backend_and_nothing_else_does():
    """A function that takes one and is not bound would ask the environment."""
    for name in d2l_ft.__all__:
        value = getattr(d2l_ft, name)
        if inspect.isfunction(value):
            backend = inspect.signature(value).parameters.get('backend')
            takes = backend is not None and 'Backend' in str(backend.annotation)  # not its name
            assert takes == (name in WITH_BACKEND), name
