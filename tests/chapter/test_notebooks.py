"""The notebooks run from top to bottom: in a kernel that nobody prepared, and on photographs."""

from pathlib import Path

import nbformat
import pytest
import served
from nbclient import NotebookClient

from d2l_ft.backend.registry import VARIABLE
from d2l_ft.chapter.book import Book
from d2l_ft.chapter.execute import execute
from d2l_ft.chapter.site import write_notebooks
from d2l_ft.data.datasets import DATA_VARIABLE
from d2l_ft.data.synthetic import tasks
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.sources.pretrain import source_path
from d2l_ft.sources.zoo import IMAGENET
from d2l_ft.storage.cache import cache_dir
from d2l_ft.storage.downloads import MIRROR_VARIABLE

pytestmark = pytest.mark.needs('mxnet', 'pytorch')  # in a kernel that has both

CHAPTERS = Path(__file__).parents[2] / 'chapters'
ARCH = {'mxnet': 'resnet18_v2', 'pytorch': 'resnet18'}
"""Tab -> the architecture of its source model."""

HEAD = {'mxnet': 'Dense(512 -> {}, linear)', 'pytorch': 'Linear(in_features=512, out_features={}'}
"""Tab -> how the framework shows the source's output layer."""

HEADS = ('output', 'fc')
"""How the names of the output layers begin."""

STARTUP = """
from d2l_ft.data import hub
from d2l_ft.sources import zoo

entry_of = hub.hub_entry
hub.hub_entry = lambda name: (entry_of(name)[0], {digest!r})
zoo.IMAGENET[{tab!r}][{arch!r}] = {entry!r}
"""
"""What a kernel runs before the cells, so that it takes the test's files for the published ones:
their hashes. Where they are is asked by the cells, and answered by a mirror."""


def small_sample(framework):
    """Put a sample of few pictures, and a source model that was never trained, into the cache."""
    tasks.write_target(cache_dir() / 'data' / f'sample-v{tasks.VERSION}', train=8, test=4)
    arch = ARCH[framework.NAME]
    net = framework.build_net(arch, len(tasks.SOURCE_CLASSES))
    save_checkpoint(source_path(arch), Checkpoint(framework.get_state(framework.place(net))))


def text_of(outputs):
    """Return all text of a cell's outputs, as nbformat has them."""
    parts = [each.get('text', '') or each.get('data', {}).get('text/plain', '') for each in outputs]
    return ''.join(parts)


@pytest.mark.parametrize('name', ['fine-tuning', 'fine-tuning-answers'])
def test_a_published_notebook_runs_in_a_kernel_that_nobody_prepared(
    framework, name, tmp_path, monkeypatch
):
    """The other framework is there too, and no variable tells which one is meant."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    small_sample(framework)
    tab = framework.NAME
    write_notebooks(Book(CHAPTERS), 'en', tmp_path, {})
    notebook = nbformat.read(tmp_path / f'{name}-{tab}.ipynb', 4)
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            cell.outputs = []
    NotebookClient(notebook, timeout=300).execute(cwd=str(tmp_path))
    found = {cell.id: text_of(cell.outputs) for cell in notebook.cells if 'outputs' in cell}
    if name == 'fine-tuning':
        assert HEAD[tab].format(len(tasks.SOURCE_CLASSES)) in found['source-head']
        assert 'ImageNet: 934' in found['hotdog-row']
    else:
        state = framework.get_state(framework.place(framework.build_net(ARCH[tab], 2)))
        names = sorted(each for each in state if each.split('.')[0] in HEADS)
        assert f'changed by training: {", ".join(names)}' in found['frozen']
        assert 'sausage' in found['row']


@pytest.fixture
def photographs(framework, tmp_path, monkeypatch):
    """Serve photographs and ImageNet weights; make kernels ask for them."""
    folder, tab = tmp_path / 'served', framework.NAME
    folder.mkdir()
    arch = ARCH[tab]
    digest = served.write_photographs(folder)
    if tab == 'mxnet':
        entry = served.write_gluon_weights(folder, served.gluon_net(arch), arch)
    else:
        import torchvision

        entry = served.write_torchvision_weights(folder, torchvision.models.resnet18(), arch)
    assert type(entry) is type(IMAGENET[tab][arch])
    startup = tmp_path / 'ipython/profile_default/startup'
    startup.mkdir(parents=True)
    text = STARTUP.format(digest=digest, tab=tab, arch=arch, entry=entry)
    (startup / 'served.py').write_text(text)
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
    with served.serve(folder) as url:
        monkeypatch.setenv(MIRROR_VARIABLE, url)
        yield


def test_all_cells_run_as_on_the_photographs(framework, photographs):
    """Everything is as there but the number of the photographs, and what the weights learnt."""
    book, tab = Book(CHAPTERS), framework.NAME
    pages = {page.stem: page for page in book.origins()}
    found = {}
    for name in ('fine-tuning', 'fine-tuning-answers'):
        run, pictures, trace = execute(book, pages[name], tab, 'hotdog')
        assert run.failure is None, (run.failure, trace)
        assert run.made['data'] == 'hotdog'
        assert pictures
        found |= {key: ''.join(o.text for o in cell.outputs) for key, cell in run.cells.items()}
    assert 'hotdog: 8 training and 4 test images, crops of 224 x 224' in found['data']
    assert HEAD[tab].format(served.IMAGENET_CLASSES) in found['source-head']
    assert 'ImageNet: 934' in found['hotdog-row']
    assert '(1, 512)' in found['hotdog-row']
    assert 'hotdog     : test acc' in found['row']
    assert 'rate  0.64' in found['rates']
