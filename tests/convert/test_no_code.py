"""A symbol file can name what it likes: nothing of it is run before ``verify``."""

import json

import numpy as np
import pytest

from d2l_ft.convert import command
from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_params import write_params

MARKER = "__import__('pathlib').Path('marker').touch()"
PAYLOADS = {
    'a call': MARKER,
    'a new line': f'fc\n        {MARKER}\n        #',
    'the end of a string': f'fc\'"""\n{MARKER}\n"""',
    'another end of a line': f'fc\x0c\r\u2028\x85{MARKER}',
    'the end of a layer': f'fc = {MARKER}; x',
}


def write_net(folder, name, **attrs):
    """Write a dense layer whose node, input and parameter have a name."""
    label = f'{name}_weight'
    nodes = [
        {'op': 'null', 'name': f'{name}_in', 'inputs': []},
        {'op': 'null', 'name': label, 'inputs': []},
        {'op': 'FullyConnected', 'name': name, 'inputs': [[0, 0, 0], [1, 0, 0]],
         'attrs': {'num_hidden': '2', 'no_bias': 'True', **attrs}},
    ]  # fmt: skip
    symbol, params = folder / 'net-symbol.json', folder / 'net-0001.params'
    symbol.write_text(json.dumps({'nodes': nodes, 'heads': [[2, 0, 0]]}))
    write_params(params, {f'arg:{label}': np.ones((2, 3), np.float32)})
    return [symbol, params]


def convert(paths, target):
    return command.convert(paths, target, input_shape=(3,), keep_softmax=False, until=None)


@pytest.mark.parametrize('kind', PAYLOADS)
def test_inspect_runs_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = command.inspect(write_net(tmp_path, PAYLOADS[kind]))
    assert lines[-1] == 'convert     every operator has a rule'
    assert not (tmp_path / 'marker').exists()


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize('kind', PAYLOADS)
def test_a_name_becomes_no_code(kind, tmp_path, monkeypatch):
    """``convert`` computes a probe with the source that it writes."""
    monkeypatch.chdir(tmp_path)
    convert(write_net(tmp_path, PAYLOADS[kind]), tmp_path / 'out')
    assert not (tmp_path / 'marker').exists()
    lines = (tmp_path / 'out/model.py').read_text().splitlines()
    assert not any(MARKER in line.partition('#')[0] for line in lines)


@pytest.mark.parametrize('name', ['num_hidden', 'flatten', 'no_bias', 'other'])
def test_an_attribute_is_no_code(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=f'{name}='):
        convert(write_net(tmp_path, 'fc', **{name: MARKER}), tmp_path / 'out')
    assert not (tmp_path / 'marker').exists()


def test_the_payload_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(MARKER)
    assert (tmp_path / 'marker').exists()
