"""What may be asked for is what can be read again: one set of bounds, one line, no wait."""

import json
import os
import random
import resource
import subprocess
import sys
from dataclasses import asdict

import click
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import THOROUGH, run_config

from d2l_ft.cli import train
from d2l_ft.cli.main import main
from d2l_ft.data.validation import inspect_image
from d2l_ft.errors import CheckpointError, ModelError
from d2l_ft.runs.directory import Run
from d2l_ft.runs.settings import Settings, option_fields
from d2l_ft.sources.weights import read_weights


def stored(path, settings):
    """Write the settings into a config, and return what is read of it."""
    path.mkdir(exist_ok=True)
    Run(path, run_config(settings=settings)).save_config()
    return Run.open(path).config.settings


NUMBERS = [-5, -1, 0, 1, 2, 31, 32, 33, 48, 224, 8192, 8193, 9000, 10**6, 10**6 + 1, 10**9, 2**31,
           2**32, 2**63 - 1, 2**63, 2**64, 10**400]  # fmt: skip
FLOATS = ['0', '-0.0', '1e-320', '1e-9', '0.5', '0.9', '1', '10', '1e30', '3e38', '1e39', '1e300',
          '1e400', 'inf', '-inf', 'nan', '-1', '1e-400']  # fmt: skip
TEXTS = ['', 'sample', 'none', 'cpu', 'cpu:2', 'cpu:0', 'gpu:0,1', 'gpu:' + '9' * 5000, 'auto',
         'x' * 5000, 'ü', '\udc80', 'float32', 'float64', 'cosine', 'linear', 'resnet18', 'vgg',
         ' ', '\n']  # fmt: skip


def draw_words(draw):
    """Return random values for some of the options of ``train``."""
    words = []
    for option in draw.sample(train.train.params, draw.choice((1, 1, 2, 3, 5))):
        if option.name in ('offline', 'resume', 'out', 'backend'):
            continue
        if option.is_flag:
            words.append(draw.choice([*option.opts, *option.secondary_opts]))
        elif isinstance(option.type, click.IntRange):
            value = draw.choice((draw.choice(NUMBERS), draw.randrange(10 ** draw.randrange(1, 9))))
            words += [option.opts[0], str(value)]
        elif isinstance(option.type, click.types.FloatParamType):
            value = draw.choice((draw.choice(FLOATS), repr(draw.lognormvariate(0, 50))))
            words += [option.opts[0], value]
        elif isinstance(option.type, click.Choice) and draw.random() < 0.7:
            words += [option.opts[0], draw.choice(list(option.type.choices))]
        else:
            words += [option.opts[0], draw.choice(TEXTS)]
    return words


def test_random_options_are_refused_or_read_back_equal(tmp_path, monkeypatch, figure):
    """Up to the moment when a training would begin, which writes the config."""
    draw, count, kept = random.Random(0), 5000 if THOROUGH else 300, []

    def begin(_backend, settings, _out, *, resume, say):
        settings.check()
        kept.append(stored(tmp_path / 'run', settings) == settings)
        raise ModelError('it began')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('d2l_ft.runs.job.train', begin)
    monkeypatch.setattr(train, 'get_backend', lambda _: type('', (), {'NAME': 'x'}))
    seen = set()
    for _ in range(count):
        words = draw_words(draw)
        done = CliRunner().invoke(main, ['train', *words])
        assert done.exit_code == 2, (words, done.output, done.exception)
        assert done.stderr.count('\n') == 1, (words, done.stderr)
        assert done.stderr.startswith('d2l-ft: ')
        seen |= set(words)
    assert all(kept)
    assert count > len(kept) > count / 10
    assert {each.opts[0] for each in train.train.params} - seen <= {
        '--offline', '--resume', '--out', '--backend',
    }  # fmt: skip
    figure(f'{count} command lines: {len(kept)} read back equal, {count - len(kept)} refused')


BOUNDS = {
    name: each.metadata['option'].bounds
    for name, each in option_fields().items()
    if each.metadata['option'].bounds
}


@pytest.mark.parametrize('name', BOUNDS)
def test_the_ends_of_the_bounds(name, tmp_path):
    """Both the option and the config take the ends, and refuse what lies beyond."""
    option = next(each for each in train.train.params if each.name == name)
    least, most = BOUNDS[name]
    assert (option.type.min, option.type.max) == (least, most)
    for value in (least, most):
        settings = Settings.of(**{name: value})
        assert stored(tmp_path / 'run', settings) == settings
    for value in (least - 1, most + 1, -(10**400), 10**400):
        with pytest.raises(CheckpointError, match=f"'{name}' is") as caught:
            stored(tmp_path / 'run', Settings.of(**{name: value}))
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(('name', 'value'), [
    ('classes', []), ('classes', ['a', 'a']), ('classes', ['\ud800', 'b']),
    ('classes', ['a\0', 'b']),
    ('classes', [str(each) for each in range(5 * 10**5)]), ('classes', ['x' * 5000, 'b']),
    ('image_size', 9000), ('image_size', 0), ('image_size', 10**400), ('train_examples', -1),
    ('test_examples', 10**400), ('data', '\ud8ff'), ('data', 'x' * 10**5),
    ('optim', {'learning_rate': 10**400}), ('optim', {'learning_rate': float('inf')}),
    ('optim', {'weight_decay': float('nan')}), ('optim', {'momentum': 1.0}),
    ('optim', {'schedule': 'x'}), ('optim', {'num_epochs': '5'}), ('optim', []),
    ('system', {'devices': 'tpu'}), ('system', {'precision': 'float16'}),
    ('model', {'arch': 'resnet19'}), ('model', {'freeze': True, 'source': 'none'}),
    ('model', {'source': '\ud8ff'}), ('model', {'num_epochs': 5}), ('settings', []),
])  # fmt: skip
def test_a_config_out_of_bounds_is_damaged(name, value, tmp_path):
    config = asdict(run_config())
    place = config['settings'] if name in config['settings'] and name != 'data' else config
    place[name] = value
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        Run.open(tmp_path)
    line = str(caught.value)
    assert 'config.json' in line
    assert '\n' not in line
    assert len(line) < 400


@pytest.mark.parametrize('kind', ['fifo', 'zero', 'huge'])
@pytest.mark.parametrize('name', ['config.json', 'metrics.jsonl'])
def test_a_file_that_has_no_end_is_damaged(name, kind, tmp_path):
    """In a process that may take little memory; a wait would end in its time limit."""
    Run(tmp_path, run_config()).save_config()
    path = tmp_path / name
    path.unlink(missing_ok=True)
    if kind == 'fifo':
        os.mkfifo(path)
    elif kind == 'zero':
        path.symlink_to('/dev/zero')
    else:
        path.touch()
        os.truncate(path, 1 << 36)
    code = (
        'import resource, sys\nfrom pathlib import Path\nfrom d2l_ft.runs.directory import Run\n'
        'from d2l_ft.errors import CheckpointError\n'
        'used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()\n'
        'resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2)\n'
        'try:\n    Run.open(Path(sys.argv[1])).metrics()\n'
        'except CheckpointError as error:\n    print(error)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, tmp_path], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'{name} is damaged' in done.stdout
    assert done.stdout.count('\n') == 1


@pytest.mark.needs('pytorch')
def test_a_tensor_that_claims_terabytes(tmp_path):
    import torch

    path = tmp_path / 'x.pth'
    torch.save({'fc.weight': torch.zeros(1).expand(10**6, 10**7)}, path)
    with pytest.raises(ModelError, match=r'fc\.weight claims more'):
        read_weights(path, 'resnet18')
    torch.save({'fc.weight': torch.arange(6.0).reshape(2, 3).t()}, path)
    assert np.array_equal(read_weights(path, 'resnet18')['fc.weight'], [[0, 3], [1, 4], [2, 5]])


def test_too_few_open_files_is_no_fault_of_an_image(folder):
    """Whichever file is being read when the limit is met."""
    path = str(next(folder.rglob('*.jpg')))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match='Too many open files'):
            inspect_image(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert inspect_image(path).problem == ''


@pytest.mark.parametrize('limit', [8, 16, 30])
def test_too_few_open_files_are_told(limit, framework, folder, tmp_path):
    words = ['train', '--backend', framework.NAME, '--data', folder, '--source', 'none',
             '--image-size', 32, '--epochs', 1, '--out', tmp_path / 'run']  # fmt: skip
    code = (
        'import resource, sys\nfrom d2l_ft.cli.main import main\n'
        f'resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\nmain(sys.argv[1:])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, *map(str, words)], capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    assert 'Traceback' not in done.stderr
    if done.returncode:
        assert 'ulimit -n' in done.stderr.splitlines()[-1]


def test_what_is_infinite_is_refused():
    for option in ('--lr', '--head-lr-mult', '--weight-decay', '--momentum'):
        for value in ('inf', '-inf', 'nan', '1e300'):
            done = CliRunner().invoke(main, ['train', option, value])
            assert done.exit_code == 2
            assert done.stderr.count('\n') == 1
            assert 'must be' in done.stderr
