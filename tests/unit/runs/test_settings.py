"""What may be asked for is what can be read again: one set of bounds, one line, no wait."""

import random

import click
import pytest
from click.testing import CliRunner
from conftest import THOROUGH, run_config

from d2l_ft.cli import train
from d2l_ft.cli.main import main
from d2l_ft.data import datasets
from d2l_ft.errors import CheckpointError, ModelError
from d2l_ft.runs.directory import Run
from d2l_ft.runs.settings import Settings, option_fields


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


def taken(settings):
    return settings.optim.learning_rate, settings.optim.batch_size, settings.data.image_size


def test_settings_take_what_is_missing_from_the_data_set(folder):
    data = datasets.load_data(str(folder), bar=False)
    resolved = Settings.of(learning_rate=0.5).resolve(data)
    assert taken(resolved) == (0.5, 128, 224)
    assert resolved.optim.recipe('scratch').learning_rate == 5
    own = datasets.DataSet('sample', data.train, data.test, 48, 64, 0.002)
    resolved = Settings.of(batch_size=7).resolve(own)
    assert taken(resolved) == (0.002, 7, 48)
