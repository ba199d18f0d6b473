"""What the errors of the command line say."""

from click.testing import CliRunner
from conftest import run_config, says

from d2l_ft.cli.main import main
from d2l_ft.errors import CheckpointError
from d2l_ft.runs.directory import Run
from d2l_ft.runs.settings import Settings


def refused(*words, **options):
    """Return the one line of a command that is refused."""
    done = CliRunner().invoke(main, list(map(str, words)), **options)
    assert done.exit_code == 2
    line = done.output.removeprefix('d2l-ft: ')
    assert line.count('\n') == 1
    return line.strip()


def test_a_command_that_is_given_no_image(run):
    assert refused('predict', run.path, '-', input='') == (
        'the standard input names no image: give a list of paths, one a line'
    )


def test_a_command_that_goes_on_without_a_run_or_otherwise_than_it_began(tmp_path):
    assert refused('train', '--resume') == '--resume needs the run directory: --out DIR'
    run = Run(tmp_path / 'run', run_config(settings=Settings.of(seed=3)))
    run.save_config()
    assert says(CheckpointError, run.config.settings.resume, {'seed': 4}) == (
        'the run was started with `seed=3`: leave the option out, or train again with another `out`'
    )
    assert refused('train', '--resume', '--out', run.path, '--seed', 4) == (
        'the run was started with --seed 3: leave the option out, or train again with another --out'
    )
