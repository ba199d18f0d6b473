"""Which backend is chosen, and what is said of one that is missing or broken."""

from dataclasses import replace

import pytest

from d2l_ft.backend import registry
from d2l_ft.backend.registry import hint
from d2l_ft.errors import BackendBroken, BackendNotInstalled, UnknownBackend


@pytest.mark.parametrize(
    ('name', 'cause', 'advice'),
    [
        ('pytorch', 'RuntimeError: operator torchvision::nms does not exist', 'matched pair'),
        ('pytorch', 'ImportError: _C.so: undefined symbol: _ZN3c106detail', 'matched pair'),
        ('pytorch', 'ImportError: cannot allocate memory in static TLS block', 'python -c'),
        ('pytorch', 'MemoryError: ', 'python -c'),
        ('mxnet', 'MemoryError: out of memory', 'python -c'),
        ('mxnet', "AttributeError: module 'numpy' has no attribute 'bool'", 'mxnet-today'),
    ],
)
def test_a_framework_that_cannot_be_imported(name, cause, advice):
    assert advice in hint(name, cause)


def test_variable_is_read_at_the_call(monkeypatch):
    assert registry.backend_name() == 'pytorch'
    monkeypatch.setenv('D2L_FT_BACKEND', '  MXNet ')
    assert registry.backend_name() == 'mxnet'
    assert registry.backend_name('pytorch') == 'pytorch'
    monkeypatch.setenv('D2L_FT_BACKEND', '')
    assert registry.backend_name() == 'pytorch'
    monkeypatch.setenv('D2L_FT_BACKEND', 'pytroch')
    with pytest.raises(UnknownBackend, match=r'D2L_FT_BACKEND.*mxnet, pytorch'):
        registry.backend_name()


def test_not_installed_and_broken(monkeypatch, tmp_path):
    missing = replace(registry.BACKENDS['pytorch'], package='no_such_framework')
    monkeypatch.setitem(registry.BACKENDS, 'pytorch', missing)
    with pytest.raises(BackendNotInstalled, match=r'pip install "d2l-ft\[pytorch\]"'):
        registry.get_backend('pytorch')
    (tmp_path / 'd2l_ft_broken.py').write_text('import numpy\nnumpy.bool_that_went\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = replace(registry.BACKENDS['mxnet'], module='d2l_ft_broken', package='numpy')
    monkeypatch.setitem(registry.BACKENDS, 'mxnet', broken)
    with pytest.raises(BackendBroken, match=r'bool_that_went.*mxnet-today') as caught:
        registry.get_backend('mxnet')
    assert isinstance(caught.value.__cause__, AttributeError)
