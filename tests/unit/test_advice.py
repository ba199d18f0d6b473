"""What an error advises is true where it is given: causes that look alike are told apart."""

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from d2l_ft.backend.registry import hint
from d2l_ft.cli.main import main
from d2l_ft.cli.options import FLAGS, as_flags
from d2l_ft.errors import CheckpointError, ModelError
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.runs.directory import claim
from d2l_ft.sources.weights import read_weights


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


@pytest.mark.parametrize('is_run', [True, False])
def test_resume_is_advised_for_a_run_alone(tmp_path, is_run):
    (tmp_path / ('config.json' if is_run else 'thesis.txt')).touch()
    with (
        pytest.raises(CheckpointError, match='is not empty') as caught,
        claim(tmp_path, resume=False),
    ):
        pass
    assert ('`resume=True`' in str(caught.value)) == is_run
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        'config.json' if is_run else 'thesis.txt'
    ]


@pytest.mark.parametrize('name', ['weights.bin', 'weights', 'weights.onnx', 'weights.h5'])
def test_a_suffix_that_is_not_read_is_no_damage(tmp_path, name):
    save_checkpoint(tmp_path / name, Checkpoint({}))
    with pytest.raises(ModelError, match=r'by its name: \.safetensors') as caught:
        read_weights(tmp_path / name, 'resnet18')
    assert 'damaged' not in str(caught.value)


def test_damage_is_said_of_what_is_damaged(tmp_path):
    path = tmp_path / 'weights.safetensors'
    path.write_bytes(b'\x08\0\0\0\0\0\0\0{"a": 1}')
    with pytest.raises(CheckpointError, match='damaged'):
        read_weights(path, 'resnet18')


ROOT = Path(__file__).resolve().parents[2]

COMMANDS = re.compile(r'(d2l-ft|pip install|python -m|pytest) [^,:]*')
"""A command line, which may name flags."""


def texts_of_the_library():
    """Return file:line and text of each string outside the command line but docstrings."""
    paths = [*(ROOT / 'd2l_ft').rglob('*.py'), *(ROOT / 'backends').glob('d2l_ft_*/*.py')]
    for path in paths:
        if path.parent.name == 'cli':
            continue
        tree = ast.parse(path.read_text())
        parts = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr | ast.JoinedStr)
            for part in ast.iter_child_nodes(node)
            if isinstance(part, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = ''.join(
                    getattr(part, 'value', '')
                    for part in node.values
                    if isinstance(part, ast.Constant)
                )
            elif isinstance(node, ast.Constant) and id(node) not in parts:
                text = node.value
            else:
                continue
            if isinstance(text, str):
                yield f'{path.relative_to(ROOT)}:{node.lineno}', text


def test_the_library_names_arguments_and_not_flags():
    """What is one word is an argument of another program; styles of pages have -- as well."""
    flags = [
        (place, text)
        for place, text in texts_of_the_library()
        if re.search(r'(?<![\w-])(?<!var\()--[a-z]', COMMANDS.sub('', text))
        and ' ' in text
        and '{' not in text
    ]
    assert flags == []


def test_each_argument_that_a_message_names_is_an_option():
    named = [
        (place, name)
        for place, text in texts_of_the_library()
        for name in re.findall(r'(?<!`)`([a-z_]+)(?:=[^`]*)?`(?!`)', text)
    ]
    assert len(named) > 20
    assert [each for each in named if each[1] not in {*FLAGS, 'reduction'}] == []


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('`batch_size` is 0', '--batch-size is 0'),
        ('try `learning_rate=0.1` (a tenth)', 'try --lr 0.1 (a tenth)'),
        ('`freeze=True`, or `augment=False`', '--freeze, or --no-augment'),
        ('started with `freeze=False`', 'started with no --freeze'),
        ('from `data=/a b`', 'from --data /a b'),
        ('`weight` is unknown', '`weight` is unknown'),
    ],
)
def test_the_command_line_shows_flags(text, shown):
    assert as_flags(text) == shown


def test_an_error_of_the_command_line_has_flags():
    done = CliRunner().invoke(main, ['train', '--cache-features', '--freeze'])
    assert done.exit_code == 2
    assert done.stderr == (
        'd2l-ft: --cache-features needs crops that come again: add --no-augment, or --views 4\n'
    )
