"""Every command, and every block of Python, that README, docs or the help of a command shows.

Commands of d2l-ft run in a folder with small data, with the sizes of ``SMALL``. What cannot run
here is in ``NOT_RUN`` with its reason, and its options must exist. Any other command fails.
"""

import contextlib
import inspect
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import click
import nets
import pytest
from conftest import make_folder
from safetensors.numpy import save_file

from d2l_ft.backend.registry import get_backend
from d2l_ft.cli.main import main
from d2l_ft.convert.faults import FAULTS
from d2l_ft.convert.report import VERDICTS
from d2l_ft.convert.verify import TITLES
from d2l_ft.data.synthetic import tasks
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.sources.pretrain import source_path
from d2l_ft.storage.cache import cache_dir

pytestmark = [pytest.mark.slow, pytest.mark.needs('mxnet', 'pytorch')]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
BLOCK = re.compile(r'^( *)```(\w*)\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
INLINE = re.compile(r'`(d2l-ft [^`]+|make [a-z-]+)`')
ASSIGNMENT = re.compile(r'[A-Z_0-9]+=\S*$')
PROGRAMS = {'d2l-ft', 'find', 'jupyter', 'make', 'pip', 'python', 'python3', 'python3.11', 'uv'}

SMALL = {
    'train': ['--epochs', '1', '--batch-size', '8', '--image-size', '48'],
    'parity': ['--rungs', 'samples'],
    'witness': ['--input-shape', '3,18,18', '--steps', '2'],
    'convert': ['--input-shape', '3,18,18'],
    'verify': ['--steps', '2', '--no-faults'],
}
"""Command -> options that are added to what a page shows, so that it ends soon."""

NOT_RUN = {
    'd2l-ft data fetch hotdog': ('network', 'tests/reliability/test_downloads.py'),
    'd2l-ft chapter build --data hotdog': ('network', 'tests/chapter/test_notebooks.py'),
    'd2l-ft chapter build chapters/fine-tuning.md --tab pytorch --data hotdog': (
        'network', 'tests/chapter/test_notebooks.py',
    ),
    'd2l-ft parity --prove': ('minutes', 'tests/parity/test_ladder.py'),
    'D2L_FT_MIRROR=https://mirror.example/d2l d2l-ft data fetch hotdog': (
        'network', 'tests/reliability/test_downloads.py',
    ),
    'D2L_FT_DATA=hotdog .venv/bin/jupyter lab': ('a server', 'tests/chapter/test_notebooks.py'),
    'python -m pytest -p error_texts --error-texts benchmarks/error_texts.json '
    'tests/unit/*/test_error_texts.py': (
        'these tests', 'tests/unit/project/test_error_texts.py',
    ),
    'python tests/error_texts.py': ('writes a page', 'tests/unit/project/test_error_texts.py'),
    'python witness.py resnet-symbol.json resnet-0010.params': (
        'an old machine', 'tests/convert/test_witness.py',
    ),
    'python -m pytest tests/contract': ('these tests', 'tests/contract/test_contract.py'),
}  # fmt: skip
"""Command -> (why it is not run here, the test of what it does)."""

INSTALLS = re.compile(r'(\.venv/bin/|python[\d.]* -m |uv )?(pip install|venv) ')
"""Makes an environment: .ci/run does so from the locks, tests/e2e/test_wheel.py from a wheel."""


def commands_of(text, prompt):
    """Yield the commands of a block, without what is said beside them.

    Args:
        text: The lines.
        prompt: Whether the block is one of commands alone.
    """
    for line in text.splitlines():
        line = re.split(r'\s{2,}', line.strip())[0]
        words = [word for word in shlex.split(line, comments=True) if not ASSIGNMENT.match(word)]
        if words and (prompt or words[0].rpartition('/')[2] in PROGRAMS):
            yield line


def walk(command):
    """Yield a command and all that are in it."""
    yield command
    for child in getattr(command, 'commands', {}).values():
        yield from walk(child)


def documented():
    """Return every command that is shown, once, in order."""
    found = []
    for page in PAGES:
        for _, language, text in BLOCK.findall(page.read_text()):
            if language in ('', 'sh', 'bash', 'console'):
                found += commands_of(text, prompt=bool(language))
    for command in walk(main):
        for paragraph in inspect.cleandoc(command.help or '').split('\n\n'):
            if paragraph.startswith('\b'):
                found += commands_of(paragraph.partition(':\n')[2], prompt=True)
    return list(dict.fromkeys(found))


def inline():
    """Return every command in a sentence, once, in order."""
    text = '\n'.join(BLOCK.sub('', page.read_text()) for page in PAGES)
    return list(dict.fromkeys(' '.join(each.split()) for each in INLINE.findall(text)))


def python_blocks():
    """Return every block of Python with its page."""
    return [
        pytest.param(text, id=f'{page.name}-{number}')
        for page in PAGES
        for number, (_, language, text) in enumerate(BLOCK.findall(page.read_text()))
        if language == 'python'
    ]


@pytest.fixture(scope='module')
def workshop(tmp_path_factory):
    """Return a folder that has all that the pages speak of: images, weights, runs, a chapter."""
    root = tmp_path_factory.mktemp('workshop')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('D2L_FT_HOME', str(root / 'cache'))
        patch.chdir(root)
        tasks.write_target(cache_dir() / 'data' / f'sample-v{tasks.VERSION}', train=8, test=4)
        for backend, arch in (('pytorch', 'resnet18'), ('mxnet', 'resnet18_v2')):
            chosen = get_backend(backend)
            net = chosen.place(chosen.build_net(arch, len(tasks.SOURCE_CLASSES)))
            save_checkpoint(source_path(arch), Checkpoint(chosen.get_state(net)))
        pytorch, mxnet = get_backend('pytorch'), get_backend('mxnet')
        placed = pytorch.place(pytorch.build_net('resnet18', 3))
        save_file(pytorch.get_state(placed), 'weights.safetensors')
        mxnet.build_net('resnet18', 3).save_parameters('weights.params')
        images = make_folder(root / 'photos', train=8, test=2)
        (root / 'holiday').mkdir()
        for name in ('snapshot', 'lunch', 'cat', 'holiday/beach'):
            shutil.copy(images / 'test/light/00.jpg', root / f'{name}.jpg')
        shutil.copy(images / 'test/light/00.jpg', root / 'dinner.png')
        for backend in ('pytorch', 'mxnet'):
            line = f'train --backend {backend} --data photos --source weights.safetensors'
            assert run([*line.split(), *SMALL['train'], '--out', f'runs/with-{backend}']) == 0
        for name in ('pets', 'mine'):
            shutil.copytree('runs/with-pytorch', f'runs/{name}')
        (root / 'chapters').mkdir()
        (root / 'chapters/book.json').write_text('{"chapters": {"fine-tuning": "1"}}')
        (root / 'chapters/fine-tuning.md').write_text(CHAPTER)
        (root / 'script.py').write_text('import numpy\nprint(numpy.pi)\n')
        (root / 'package').mkdir()
        (root / 'package/__init__.py').touch()
        (root / 'package/module.py').write_text('print(1)\n')
        assert run(['chapter', 'build']) == 0
        make_nets()
    return root


def make_nets():
    """Write nets of MXNet into the working directory, and what they are converted to."""
    import mxnet as mx

    Path('models').mkdir()
    with mx.name.NameManager():  # counts the nodes without a name from 0
        plain = nets.classifier(prelu=False)
    with mx.name.NameManager():
        saved = nets.classifier()
    nets.train(plain, 'models/resnet', epochs=1, saved=saved)
    Path('models/resnet-0001.params').rename('models/resnet-0010.params')
    for name in ('resnet-symbol.json', 'resnet-0010.params'):
        shutil.copy(f'models/{name}', name)
    with tarfile.open('model.tar.gz', 'w:gz') as archive:
        archive.add('models')
    Path('exported').mkdir()
    with mx.name.NameManager():
        nets.gluon('exported/small')
    net = mx.gluon.model_zoo.vision.resnet18_v2(classes=3)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.save_parameters('net.params')
    made = {'model.tar.gz': 'flowers', 'models': 'resnet', 'exported': 'small'}
    for source, target in made.items():
        assert run(small(['convert', source, '--to', target])) == 0
    assert run(small(['witness', 'model.tar.gz', '--out', 'witness.npz'])) == 0


CHAPTER = """# Fine-Tuning

```{.python .input #one}
#@tab mxnet
print('mxnet')
```

```{.python .input #two}
#@tab pytorch
print('pytorch')
```
"""


@pytest.fixture
def place(workshop, tmp_path, monkeypatch):
    """Return a copy of the workshop, which is the working directory; large files are links."""

    def copy(source, target):
        (os.link if Path(source).suffix == '.safetensors' else shutil.copy2)(source, target)

    folder = tmp_path / 'place'
    shutil.copytree(workshop, folder, copy_function=copy)
    monkeypatch.setenv('D2L_FT_HOME', str(folder / 'cache'))
    monkeypatch.chdir(folder)
    return folder


def run(arguments):
    """Run d2l-ft in this process and return its exit code."""
    return main.main(list(arguments), prog_name='d2l-ft', standalone_mode=False) or 0


def check_options(arguments, whole=True):
    """Check that a command of d2l-ft exists, and takes these arguments.

    Args:
        arguments: What follows ``d2l-ft``.
        whole: Whether nothing that the command needs is left out.

    Raises:
        UsageError: It does not.
    """
    command, context = main, click.Context(main, info_name='d2l-ft')
    while isinstance(command, click.Group) and arguments:
        name, command, arguments = command.resolve_command(context, list(arguments))
        context = click.Context(command, context, name)
    if not isinstance(command, click.Group):
        missing = contextlib.nullcontext() if whole else contextlib.suppress(click.MissingParameter)
        with missing, contextlib.suppress(click.exceptions.Exit):  # --help
            command.make_context(command.name, list(arguments))


def small(arguments):
    """Return the arguments of a command with small sizes, and weights that are here."""
    arguments = ['weights.safetensors' if each == 'imagenet' else each for each in arguments]
    if '--resume' in arguments:  # which takes the options of the run
        return arguments
    for command, option in (('train', '--out'), ('convert', '--to')):  # which ask for a new folder
        if arguments[0] == command and option in arguments:
            shutil.rmtree(arguments[arguments.index(option) + 1], ignore_errors=True)
    return [*arguments, *SMALL.get(arguments[0], [])]


def check_target(name):
    """Check that make knows a target."""
    assert re.search(rf'^{name}:', (ROOT / 'Makefile').read_text(), re.MULTILINE), name


def check_script(script, options):
    """Check that a script is there, and has these options."""
    text = (ROOT / script).read_text()
    for option in options:
        assert not option.startswith('-') or f"'{option}'" in text, option


@pytest.mark.parametrize('line', documented())
def test_a_documented_command_works(line, place, monkeypatch):
    words = shlex.split(line)
    while ASSIGNMENT.match(words[0]):
        monkeypatch.setenv(*words.pop(0).split('=', 1))
    program, arguments = words[0].removeprefix('.venv/bin/'), words[1:]
    if line in NOT_RUN:
        if program == 'd2l-ft':
            check_options(arguments)
    elif '|' in words:
        at = words.index('|')
        found = subprocess.run(words[:at], capture_output=True, check=True)
        done = subprocess.run(
            [sys.executable, '-m', 'd2l_ft', *words[at + 2 :]], input=found.stdout, check=False
        )
        assert words[at + 1] == 'd2l-ft'
        assert done.returncode == 0
    elif program == 'd2l-ft':
        assert run(small(arguments)) == 0
    elif program == 'make':
        for each in arguments:
            check_target(each)
    elif arguments[:2] == ['-m', 'd2l_ft_mxnet.today'] or arguments[0].endswith('/check.py'):
        assert subprocess.run([sys.executable, *arguments], check=False).returncode == 0
    elif program == 'python' and arguments[0].startswith('benchmarks/'):
        check_script(arguments[0], arguments[1:])
    else:
        assert INSTALLS.match(line), f'nothing here knows how to run  {line}'


@pytest.mark.parametrize('line', inline())
def test_a_command_in_a_sentence_exists(line, monkeypatch):
    program, *arguments = shlex.split(line)
    if program == 'make':
        check_target(arguments[0])
    elif arguments[0] != 'COMMAND':
        check_options(arguments, whole=False)


@pytest.mark.parametrize('text', python_blocks())
def test_a_block_of_python_runs(text, place, monkeypatch):
    monkeypatch.syspath_prepend(place)
    (place / 'block.py').write_text(inspect.cleandoc(text))
    runpy.run_path('block.py')


def test_the_page_shows_the_source_that_is_written_and_what_verify_says(workshop):
    page = (ROOT / 'docs/leaving-mxnet.md').read_text()
    for name in ('flowers', 'small'):
        assert (workshop / name / 'model.py').read_text() in page
    for words in (*TITLES.values(), VERDICTS['equal']):
        assert words in page
    planted = re.findall(r'^planted   (.*): seen by', page, re.MULTILINE)
    assert len(planted) > 10
    assert set(planted) <= set(FAULTS)


def test_what_is_not_run_here_is_shown_and_tested_elsewhere():
    assert set(NOT_RUN) <= set(documented())
    for _, test in NOT_RUN.values():
        assert (ROOT / test).is_file()


@pytest.mark.parametrize('line', ['train --no-such', 'no-such', 'data chek photos', 'evaluate'])
def test_a_command_that_does_not_exist_is_noticed(line):
    with pytest.raises(click.UsageError):
        check_options(line.split())
