"""The book's own code: its cells with our import line, and its loop with our net and loaders."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import make_folder

import d2l_ft as d2l
from d2l_ft.backend.probe import NoAnimator
from d2l_ft.backend.registry import get_backend
from d2l_ft.data.opencv import cv2
from d2l_ft.errors import D2LFTError
from d2l_ft.optim.recipe import Recipe

# it takes minutes, and nothing of it depends on what a leg lacks
pytestmark = [pytest.mark.slow, pytest.mark.needs('mxnet', 'pytorch')]

MXNET_CELLS = (
    # the import line stands first: MXNet needs it on a Python or NumPy that came after it
    """
from d2l_ft import mxnet as d2l
import os
from mxnet import gluon, init, np, npx
from mxnet.gluon import nn
npx.set_np()
""",
    """
d2l.DATA_HUB['hotdog'] = (d2l.DATA_URL + 'hotdog.zip',
                          'fba480ffa8aa7e0febbb511d181409f899b9baa5')
data_dir = d2l.download_extract('hotdog')
""",
    """
train_imgs = gluon.data.vision.ImageFolderDataset(
    os.path.join(data_dir, 'train'))
test_imgs = gluon.data.vision.ImageFolderDataset(
    os.path.join(data_dir, 'test'))
""",
    """
hotdogs = [train_imgs[i][0] for i in range(8)]
not_hotdogs = [train_imgs[-i - 1][0] for i in range(8)]
d2l.show_images(hotdogs + not_hotdogs, 2, 8, scale=1.4);
""",
    """
normalize = gluon.data.vision.transforms.Normalize(
    [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
train_augs = gluon.data.vision.transforms.Compose([
    gluon.data.vision.transforms.RandomResizedCrop(224),
    gluon.data.vision.transforms.RandomFlipLeftRight(),
    gluon.data.vision.transforms.ToTensor(),
    normalize])
test_augs = gluon.data.vision.transforms.Compose([
    gluon.data.vision.transforms.Resize(256),
    gluon.data.vision.transforms.CenterCrop(224),
    gluon.data.vision.transforms.ToTensor(),
    normalize])
""",
    'pretrained_net = gluon.model_zoo.vision.resnet18_v2(pretrained=True)',
    'pretrained_net.output',
    """
finetune_net = gluon.model_zoo.vision.resnet18_v2(classes=2)
finetune_net.features = pretrained_net.features
finetune_net.output.initialize(init.Xavier())
finetune_net.output.collect_params().setattr('lr_mult', 10)
""",
    """
def train_fine_tuning(net, learning_rate, batch_size=128, num_epochs=5):
    train_iter = gluon.data.DataLoader(
        train_imgs.transform_first(train_augs), batch_size, shuffle=True)
    test_iter = gluon.data.DataLoader(
        test_imgs.transform_first(test_augs), batch_size)
    devices = d2l.try_all_gpus()
    net.collect_params().reset_ctx(devices)
    net.hybridize()
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {
        'learning_rate': learning_rate, 'wd': 0.001})
    d2l.train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs,
                   devices)
""",
    'train_fine_tuning(finetune_net, 0.01)',
    """
scratch_net = gluon.model_zoo.vision.resnet18_v2(classes=2)
scratch_net.initialize(init=init.Xavier())
train_fine_tuning(scratch_net, 0.1)
""",
    "finetune_net.features.collect_params().setattr('grad_req', 'null')",
    """
weight = pretrained_net.output.weight
hotdog_w = np.split(weight.data(), 1000, axis=0)[713]
hotdog_w.shape
""",
)

PYTORCH_CELLS = (
    """
import os
import torch
import torchvision
from torch import nn
from d2l_ft import torch as d2l
""",
    MXNET_CELLS[1],
    """
train_imgs = torchvision.datasets.ImageFolder(os.path.join(data_dir, 'train'))
test_imgs = torchvision.datasets.ImageFolder(os.path.join(data_dir, 'test'))
""",
    MXNET_CELLS[3],
    """
normalize = torchvision.transforms.Normalize(
    [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
train_augs = torchvision.transforms.Compose([
    torchvision.transforms.RandomResizedCrop(224),
    torchvision.transforms.RandomHorizontalFlip(),
    torchvision.transforms.ToTensor(),
    normalize])
test_augs = torchvision.transforms.Compose([
    torchvision.transforms.Resize([256, 256]),
    torchvision.transforms.CenterCrop(224),
    torchvision.transforms.ToTensor(),
    normalize])
""",
    'pretrained_net = torchvision.models.resnet18(pretrained=True)',
    'pretrained_net.fc',
    """
finetune_net = torchvision.models.resnet18(pretrained=True)
finetune_net.fc = nn.Linear(finetune_net.fc.in_features, 2)
nn.init.xavier_uniform_(finetune_net.fc.weight);
""",
    """
def train_fine_tuning(net, learning_rate, batch_size=128, num_epochs=5,
                      param_group=True):
    train_iter = torch.utils.data.DataLoader(torchvision.datasets.ImageFolder(
        os.path.join(data_dir, 'train'), transform=train_augs),
        batch_size=batch_size, shuffle=True)
    test_iter = torch.utils.data.DataLoader(torchvision.datasets.ImageFolder(
        os.path.join(data_dir, 'test'), transform=test_augs),
        batch_size=batch_size)
    devices = d2l.try_all_gpus()
    loss = nn.CrossEntropyLoss(reduction='none')
    if param_group:
        params_1x = [param for name, param in net.named_parameters()
                     if name not in ['fc.weight', 'fc.bias']]
        trainer = torch.optim.SGD([
            {'params': params_1x},
            {'params': net.fc.parameters(), 'lr': learning_rate * 10}],
            lr=learning_rate, weight_decay=0.001)
    else:
        trainer = torch.optim.SGD(net.parameters(), lr=learning_rate,
                                  weight_decay=0.001)
    d2l.train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs,
                   devices)
""",
    'train_fine_tuning(finetune_net, 5e-5)',
    """
scratch_net = torchvision.models.resnet18()
scratch_net.fc = nn.Linear(scratch_net.fc.in_features, 2)
train_fine_tuning(scratch_net, 5e-4, param_group=False)
""",
    'for param in finetune_net.parameters():\n    param.requires_grad = False',
    """
weight = pretrained_net.fc.weight
hotdog_w = torch.split(weight.data, 1, dim=0)[934]
hotdog_w.shape
""",
)
"""The thirteen cells of each tab, as the book's interface has them: names, order, arguments."""

DOWNLOADS = {
    "data_dir = d2l.download_extract('hotdog')": 'data_dir = os.environ["HOTDOG"]',
    'pretrained_net = gluon.model_zoo.vision.resnet18_v2(pretrained=True)': """
pretrained_net = gluon.model_zoo.vision.resnet18_v2()
pretrained_net.initialize(init.Xavier())
pretrained_net(np.zeros((1, 3, 224, 224)))
""",
    'torchvision.models.resnet18(pretrained=True)': 'torchvision.models.resnet18()',
}
"""The two downloads, and what stands for them here."""

ROW = (1, 512)


@pytest.fixture
def hotdogs(tmp_path):
    """Return a folder like that of the book's archive, with few pictures."""
    draws = np.random.default_rng(0)
    for part, count in (('train', 10), ('test', 4)):
        for level, name in ((190, 'hotdog'), (60, 'not-hotdog')):
            place = tmp_path / 'hotdog' / part / name
            place.mkdir(parents=True)
            for number in range(count):
                height, width = draws.integers(200, 320, 2)
                image = np.clip(draws.normal(level, 30, (height, width, 3)), 0, 255)
                cv2.imwrite(str(place / f'{number}.png'), image.astype(np.uint8))
    return tmp_path / 'hotdog'


@pytest.mark.parametrize(
    ('cells', 'step'),
    [
        pytest.param(MXNET_CELLS, 'mean', marks=pytest.mark.needs('mxnet'), id='mxnet'),
        pytest.param(PYTORCH_CELLS, 'sum', marks=pytest.mark.needs('pytorch'), id='pytorch'),
    ],
)
def test_the_books_cells_run_with_our_import_line(cells, step, hotdogs, tmp_path):
    assert len(cells) == 13
    code = '\n\n'.join(cells)
    for theirs, here in DOWNLOADS.items():
        code = code.replace(theirs, here)
    assert 'download' not in code
    assert 'pretrained=True' not in code
    script = tmp_path / 'cells.py'
    script.write_text(f'{code}\nprint("row", tuple(hotdog_w.shape), type(hotdog_w).__module__)\n')
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, 'HOTDOG': str(hotdogs), 'MPLBACKEND': 'Agg'},
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    summaries = [line for line in lines if line.startswith('loss ')]
    speeds = [line for line in lines if 'examples/sec on' in line]
    assert len(summaries) == len(speeds) == 2
    assert all(f'gradient of the {step} over the batch, as in the book' in each for each in speeds)
    assert lines[-1] == f'row {ROW} {"mxnet.numpy" if step == "mean" else "torch"}'
    # bright and dark noise: a step as the book takes it tells them apart within five epochs
    assert float(summaries[0].partition('train acc ')[2][:5]) > 0.8


def printed(name):
    """Return the book's package for a framework, without its drawing."""
    if name == 'mxnet':
        from d2l import mxnet as package
    else:
        from d2l import torch as package
    return package


@pytest.mark.filterwarnings('ignore:Converting a tensor with requires_grad')  # the book's own
@pytest.mark.parametrize(
    'name',
    [pytest.param(each, marks=pytest.mark.needs(each)) for each in ('mxnet', 'pytorch')],
)
def test_the_books_loop_drives_our_net_loader_and_trainer(name, tmp_path, monkeypatch, capsys):
    book, backend = printed(name), get_backend(name)
    monkeypatch.setattr(book, 'Animator', NoAnimator)
    train, test = d2l.load_folders(make_folder(tmp_path / 'photos'))
    states = []
    try:
        if name == 'mxnet':
            book.npx.set_np()
        for loop in (book.train_ch13, d2l.train_ch13):
            net = backend.build_net('resnet18', 2, seed=1)
            devices = backend.devices('cpu')
            placed = backend.place(net, devices)
            # the mean, as the book's MXNet tab takes it; its PyTorch tab sums
            rate = 0.01 if name == 'mxnet' else 0.01 / 4
            trainer = backend.build_trainer(placed, Recipe(rate, weight_decay=0))
            loaders = [backend.loader(part.samples, d2l.Pipeline(64), 4) for part in (train, test)]
            loss = (
                book.gluon.loss.SoftmaxCrossEntropyLoss()
                if name == 'mxnet'
                else book.nn.CrossEntropyLoss(reduction='none')
            )
            more = {} if loop is book.train_ch13 else {'reduction': 'book'}
            loop(net, *loaders, loss, trainer, 2, devices, **more)
            states.append(backend.get_state(placed))
            words = capsys.readouterr().out
            assert words.startswith('loss ')
    finally:
        if name == 'mxnet':
            book.npx.reset_np()
    theirs, ours = states
    for key, array in theirs.items():
        np.testing.assert_allclose(ours[key], array, rtol=1e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    'name',
    [pytest.param(each, marks=pytest.mark.needs(each)) for each in ('mxnet', 'pytorch')],
)
def test_resnet18_is_the_books(name, monkeypatch):
    """The same names, shapes and outputs, so that its parameter files can be exchanged."""
    book, backend = printed(name), get_backend(name)
    images = np.random.default_rng(0).normal(size=(2, 3, 28, 28)).astype('float32')
    labels = np.zeros(2, np.int32)
    try:
        if name == 'mxnet':
            book.npx.set_np()
            theirs = book.resnet18(10)
            theirs.initialize()
            ours = d2l.resnet18(10, backend=backend)
            ours.initialize()
            for net in (theirs, ours):
                net(backend.to_batch(images, labels)[0])
        else:
            theirs = book.resnet18(10, 3)
            ours = d2l.resnet18(10, 3, backend=backend)
        theirs, ours = backend.place(theirs), backend.place(ours)
        backend.set_state(ours, backend.get_state(theirs))
        batch = backend.to_batch(images, labels)
        wanted = backend.logits(theirs, batch)
        np.testing.assert_allclose(backend.logits(ours, batch), wanted, rtol=1e-5, atol=1e-6)
    finally:
        if name == 'mxnet':
            book.npx.reset_np()


def test_a_backend_without_the_books_nets_is_told():
    import reference_backend

    with pytest.raises(D2LFTError, match='has no module book'):
        d2l.resnet18(2, backend=reference_backend)


def test_default_channels_of_resnet18(framework):
    net = d2l.resnet18(3, backend=framework)
    if framework.NAME == 'mxnet':
        net.initialize()
        net(framework.to_batch(np.zeros((1, 5, 28, 28), 'float32'), np.zeros(1, int))[0])
        return
    batch = framework.to_batch(np.zeros((2, 1, 28, 28), 'float32'), np.zeros(2, int))
    assert framework.logits(framework.place(net), batch).shape == (2, 3)


def test_the_book_api_is_whole():
    """Each name that the book's image chapters take from d2l for a training is there."""
    for name in (
        'train_ch13', 'train_batch_ch13', 'evaluate_accuracy_gpu', 'evaluate_accuracy_gpus',
        'try_gpu', 'try_all_gpus', 'resnet18', 'Timer', 'Accumulator', 'Animator',
        'set_figsize', 'plot', 'show_images', 'DATA_HUB', 'DATA_URL', 'download_extract',
    ):  # fmt: skip
        assert name in d2l.__all__
        assert getattr(d2l, name) is not None
