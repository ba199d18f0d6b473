"""Arguments as flags, and paths as a user writes them."""

import os

import pytest
from click.testing import CliRunner
from conftest import make_folder

from d2l_ft.cli.main import main
from d2l_ft.cli.options import as_flags


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


@pytest.mark.needs('pytorch')
def test_home_is_expanded_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = make_folder(tmp_path / 'photos', train=4, test=1)
    image = f'~/photos/test/dark/{next((folder / "test/dark").iterdir()).name}'
    for words in (
        ['train', '--data', '~/photos', '--source', 'none', '--image-size', '33', '--epochs', '1',
         '--lr', '1e-5', '--out', '~/run'],
        ['evaluate', '~/run', '--data', '~/photos'],
        ['predict', '~/run', image],
        ['compare', '~/run', '--out', '~/x.svg'],
        ['data', 'check', '~/photos'],
    ):  # fmt: skip
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    assert (tmp_path / 'x.svg').exists()
    assert not os.path.exists('~')
