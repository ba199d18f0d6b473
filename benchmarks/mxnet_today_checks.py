"""What ``mxnet_today.py`` runs in each environment: parts of MXNet, and digests of the results.

It uses NumPy for its inputs only as all its releases agree on them.
"""

import collections
import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import d2l_ft_mxnet.today
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn
from mxnet.gluon.data import ArrayDataset, DataLoader
from mxnet.gluon.data.vision import transforms

GIVEN = len(d2l_ft_mxnet.today.what_is_missing())
CHECKS: dict[str, Callable] = {}


def check(function):
    """Note a check; the first line of its docstring is its name in the table."""
    CHECKS[function.__doc__.strip().rstrip('.')] = function
    return function


def plain(value):
    """Return what a digest is taken of, for any result."""
    if isinstance(value, mx.nd.NDArray):
        value = value.asnumpy()
    if isinstance(value, (np.ndarray, np.generic)):
        return f'{value.shape}{value.dtype}'.encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, (list, tuple)):
        return b'(' + b','.join(plain(each) for each in value) + b')'
    return repr(value).encode()


def numbers(*shape):
    """Return float32 numbers in [-1, 1)."""
    draws = np.random.RandomState(7)
    return mx.nd.array((draws.random_sample(shape) * 2 - 1).astype('float32'))


def net():
    """Return a small convolutional net with fixed weights."""
    block = nn.HybridSequential()
    block.add(
        nn.Conv2D(4, 3, in_channels=3),
        nn.BatchNorm(in_channels=4),
        nn.Activation('relu'),
        nn.GlobalAvgPool2D(),
        nn.Dense(2, in_units=4),
    )
    mx.random.seed(3)
    block.initialize(mx.init.Xavier())
    return block


def train_weights(hybrid, optimizer='sgd'):
    """Return the weights of ``net`` after three steps."""
    block, loss = net(), gluon.loss.SoftmaxCrossEntropyLoss()
    if hybrid:
        block.hybridize()
    trainer = gluon.Trainer(block.collect_params(), optimizer, {'learning_rate': 0.1})
    for _ in range(3):
        with autograd.record():
            each = loss(block(numbers(4, 3, 8, 8)), mx.nd.array([0, 1, 1, 0]))
        each.backward()
        trainer.step(4)
    return block, [each.data() for each in block.collect_params().values()]


@check
def legacy():
    """mx.nd: arithmetic, indexing, sorting, sparse arrays."""
    a = numbers(4, 5)
    a[1:3, ::2] = 2
    picked = a[mx.nd.array([3, 0], dtype='int32')]
    sparse = mx.nd.dot(a.tostype('csr'), a.T)
    odd = mx.nd.array([300, -1], dtype='uint8')
    return [a, picked, a.topk(k=2, ret_typ='both'), a ** np.float32(2), a.mean(), sparse, odd,
            mx.nd.ones((np.int64(2), np.prod([1, 3])))]  # fmt: skip


@check
def gradients():
    """autograd, first and second order."""
    x = numbers(3, 4)
    x.attach_grad()
    with autograd.record():
        first = autograd.grad(mx.nd.sin(x), x, create_graph=True, retain_graph=True)[0]
    first.backward()
    return [first, x.grad]


@check
def training():
    """Gluon: three steps of SGD, Adam and LAMB."""
    return [train_weights(False, each)[1] for each in ('sgd', 'adam', 'lamb')]


@check
def hybrid_training():
    """Gluon: three hybridized steps."""
    return train_weights(True)[1]


@check
def export():
    """HybridBlock.export and SymbolBlock.imports."""
    block, _ = train_weights(True)
    block.export('net')
    again = gluon.SymbolBlock.imports('net-symbol.json', ['data'], 'net-0000.params')
    same = (again(numbers(2, 3, 8, 8)) == block(numbers(2, 3, 8, 8))).min()
    return [block(numbers(2, 3, 8, 8)), same]


@check
def save_and_load():
    """save_parameters, load_parameters, nd.save: the files too."""
    block, weights = train_weights(False)
    block.save_parameters('net.params')
    again = net()
    again.load_parameters('net.params')
    mx.nd.save('arrays', {'a': weights[0]})
    files = [
        hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in ('net.params', 'arrays')
    ]
    return [[each.data() for each in again.collect_params().values()], files]


@check
def data_loaders():
    """DataLoader with 0 and 2 workers, and with threads."""
    data = ArrayDataset(numbers(9, 3), np.arange(9))
    return [
        [list(batch) for batch in DataLoader(data, 4, **options)]
        for options in ({}, {'num_workers': 2}, {'num_workers': 2, 'thread_pool': True})
    ]


@check
def numpy_arrays():
    """mx.np: functions, boolean indices, NumPy's functions on its arrays."""
    a = numbers(3, 4).as_np_ndarray()
    with mx.util.np_shape(True), mx.util.np_array(True):
        found = [
            a[a > 0], a[True], np.mean(a), np.concatenate([a, a]), np.sort(a), mx.np.trapz(a),
            mx.np.in1d(a, a[0]), mx.np.msort(a), bool(mx.np.alltrue(a)), mx.np.unique(a),
            mx.np.isin(a, a[1]),
            mx.np.einsum('ij,kj->ik', a, a), mx.np.linalg.norm(a), mx.np.pad(a, ((1, 1), (0, 0))),
            mx.np.array(True), mx.npx.relu(a),
            mx.np.interp(a, mx.np.array([0., 1.]), mx.np.array([1., 3.])),
        ]  # fmt: skip
    return found


@check
def module():
    """Module.fit with NDArrayIter, on a symbol."""
    data = mx.sym.var('data')
    symbol = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(data, num_hidden=2), name='softmax')
    rows = mx.io.NDArrayIter(numbers(8, 3), mx.nd.array([0, 1] * 4), 4)
    model = mx.mod.Module(symbol)
    mx.random.seed(1)
    model.fit(rows, num_epoch=2, initializer=mx.init.Xavier(), kvstore='local')
    return [
        list(model.get_params()[0].values()),
        [(n, float(v)) for n, v in model.score(rows, 'acc')],
    ]


@check
def images():
    """image.imread, imresize, augmenters; gluon's transforms."""
    import cv2

    picture = ((numbers(40, 50, 3).asnumpy() + 1) * 127).astype('uint8')
    cv2.imwrite('picture.png', picture)
    image = mx.image.imread('picture.png')
    compose = transforms.Compose(
        [
            transforms.Resize(24),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(0.5, 0.2),
        ]
    )
    augment = mx.image.CreateAugmenter((3, 16, 16), mean=True, std=True)
    result = image
    for each in augment:
        result = each(result)
    return [image, mx.image.imresize(image, 20, 30), compose(image), result]


@check
def metrics():
    """metric: accuracy, F1, MAE, RMSE, cross entropy, perplexity, loss, Pearson."""
    labels, guesses = mx.nd.array([0, 1, 1, 0, 1]), mx.nd.softmax(numbers(5, 2))
    found = []
    for name in ('acc', 'f1', 'mcc', 'ce', 'nll_loss', 'top_k_accuracy'):
        metric = mx.metric.create(name, **({'top_k': 2} if name.startswith('top') else {}))
        for _ in range(3):
            metric.update([labels], [guesses])
        found.append((name, float(metric.get()[1])))
    for metric in (
        mx.metric.MAE(),
        mx.metric.RMSE(),
        mx.metric.PearsonCorrelation(),
        mx.metric.Perplexity(None),
        mx.metric.Loss(),
    ):
        for number in range(3):
            two_columns = isinstance(metric, mx.metric.Perplexity)
            metric.update([labels], [guesses if two_columns else guesses[:, 1] * (number + 1)])
        found.append((metric.name, float(metric.get()[1])))
    return found


@check
def kvstore():
    """KVStore 'local' with an updater."""
    store = mx.kv.create('local')
    store.init(3, mx.nd.ones((2, 2)))
    store.set_optimizer(mx.optimizer.SGD(learning_rate=0.5))
    store.push(3, [numbers(2, 2)] * 2)
    out = mx.nd.zeros((2, 2))
    store.pull(3, out=out)
    return out


@check
def records():
    """RecordIO, packed images, ImageRecordIter."""
    record = mx.recordio.MXIndexedRecordIO('a.idx', 'a.rec', 'w')
    picture = ((numbers(16, 16, 3).asnumpy() + 1) * 127).astype('uint8')
    for number in range(4):
        header = mx.recordio.IRHeader(0, [number, 2.0], number, 0)
        record.write_idx(number, mx.recordio.pack_img(header, picture, img_fmt='.png'))
    record.close()
    header, image = mx.recordio.unpack_img(
        mx.recordio.MXIndexedRecordIO('a.idx', 'a.rec', 'r').read_idx(2)
    )
    rows = mx.io.ImageRecordIter(
        path_imgrec='a.rec', data_shape=(3, 16, 16), batch_size=2, label_width=2
    )
    return [header.label, image, [(each.data[0], each.label[0]) for each in rows]]


@check
def recurrent():
    """rnn: LSTM layer, GRU cell unrolled; random numbers; custom operator."""

    class Double(mx.operator.CustomOp):
        def forward(self, is_train, req, in_data, out_data, aux):
            self.assign(out_data[0], req[0], in_data[0] * 2)

    @mx.operator.register('double_of')
    class DoubleProp(mx.operator.CustomOpProp):
        def create_operator(self, ctx, shapes, dtypes):
            return Double()

    mx.random.seed(5)
    layer, cell = gluon.rnn.LSTM(4, input_size=3), gluon.rnn.GRUCell(4, input_size=3)
    layer.initialize()
    cell.initialize()
    outputs, _ = cell.unroll(3, numbers(2, 3, 3), merge_outputs=True)
    drawn = mx.nd.random.normal(shape=(2, 2))
    return [layer(numbers(5, 2, 3)), outputs, drawn, mx.nd.Custom(numbers(2), op_type='double_of')]


@check
def estimator():
    """Estimator.fit with early stopping."""
    from mxnet.gluon.contrib.estimator import Estimator
    from mxnet.gluon.contrib.estimator.event_handler import EarlyStoppingHandler

    block = net()
    guide = Estimator(block, gluon.loss.SoftmaxCrossEntropyLoss())
    data = DataLoader(ArrayDataset(numbers(8, 3, 8, 8), np.array([0, 1] * 4)), 4)
    guide.fit(data, epochs=2, event_handlers=[EarlyStoppingHandler(guide.train_metrics[0])])
    return [each.data() for each in block.collect_params().values()]


@check
def profile():
    """profiler: a run and its table."""
    mx.profiler.set_config(profile_all=True, aggregate_stats=True, filename='profile.json')
    mx.profiler.set_state('run')
    mx.nd.dot(numbers(3, 3), numbers(3, 3)).wait_to_read()
    mx.profiler.set_state('stop')
    return 'dot' in mx.profiler.dumps()


@check
def zoo():
    """Gluon's zoo and GluonCV: resnet18, mobilenet, SSD, forward."""
    import gluoncv

    found = []
    for make, name, size in (
        (gluon.model_zoo.vision.get_model, 'mobilenet0.25', 64),
        (gluoncv.model_zoo.get_model, 'resnet18_v1b', 64),
        (gluoncv.model_zoo.get_model, 'mobilenetv2_0.25', 64),
        (gluoncv.model_zoo.get_model, 'ssd_300_vgg16_atrous_voc', 300),
    ):
        mx.random.seed(2)
        block = make(name, **({'pretrained_base': False} if name.startswith('ssd') else {}))
        block.initialize()
        found.append(block(numbers(1, 3, size, size)))
    return found


@check
def detection():
    """GluonCV: presets of SSD and YOLO, box metrics, box iou."""
    import gluoncv
    from gluoncv.data.transforms.presets import ssd, yolo

    image = ((numbers(60, 80, 3) + 1) * 127).astype('uint8')
    boxes = np.array([[1, 2, 30, 40], [5, 6, 50, 55]], 'float32')
    metric = gluoncv.utils.metrics.VOC07MApMetric(class_names=['a', 'b'])
    metric.update(
        *(
            mx.nd.array(each)[None]
            for each in (boxes, np.zeros((2, 1)), np.ones((2, 1)), boxes + 1, np.zeros((2, 1)))
        )
    )
    return [
        ssd.transform_test(image, 32)[0],
        yolo.transform_test(image, 32)[0],
        gluoncv.utils.bbox_iou(boxes, boxes),
        [float(x) for x in metric.get()[1]],
    ]


def main() -> None:
    """Run all checks; print what they found as JSON."""
    found = collections.OrderedDict()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, function in CHECKS.items():
            try:
                found[name] = hashlib.sha256(plain(function())).hexdigest()[:16]
            except Exception as error:
                traceback.print_exc()
                found[name] = f'failed: {type(error).__name__}'
    others = ('mxnet', 'gluoncv', 'scipy', 'opencv-python-headless', 'pandas')
    print(
        json.dumps(
            {
                'python': platform.python_version(),
                'numpy': np.__version__,
                'given': GIVEN,
                'others': {name: importlib.metadata.version(name) for name in others},
                'checks': found,
            }
        )
    )


if __name__ == '__main__':
    main()
