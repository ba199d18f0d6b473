"""The chapter on fine-tuning as the book prints it, MXNet tab: FOLDER EPOCHS BATCH.

Two things differ: the weights are random, and the loop of ``d2l.train_ch13`` stands here, without
its plot, which needs a notebook and at least five batches an epoch.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import plain_mxnet  # noqa: F401  # before MXNet

# isort: split

from d2l import mxnet as d2l
from measured import report
from mxnet import gluon, init, npx

# as MXNet's import left it
THREADS = ctypes.CDLL('libgomp.so.1').omp_get_max_threads()
data_dir, num_epochs, batch_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
npx.set_np()

train_imgs = gluon.data.vision.ImageFolderDataset(os.path.join(data_dir, 'train'))
test_imgs = gluon.data.vision.ImageFolderDataset(os.path.join(data_dir, 'test'))
normalize = gluon.data.vision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
train_augs = gluon.data.vision.transforms.Compose(
    [
        gluon.data.vision.transforms.RandomResizedCrop(224),
        gluon.data.vision.transforms.RandomFlipLeftRight(),
        gluon.data.vision.transforms.ToTensor(),
        normalize,
    ]
)
test_augs = gluon.data.vision.transforms.Compose(
    [
        gluon.data.vision.transforms.Resize(256),
        gluon.data.vision.transforms.CenterCrop(224),
        gluon.data.vision.transforms.ToTensor(),
        normalize,
    ]
)

finetune_net = gluon.model_zoo.vision.resnet18_v2(classes=2)
finetune_net.initialize(init.Xavier())
finetune_net.output.collect_params().setattr('lr_mult', 10)


def train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs, devices):
    """Train as ``d2l.train_ch13`` does; return examples and seconds of each epoch's training."""
    epochs = []
    for _ in range(num_epochs):
        begun = time.perf_counter()
        metric = d2l.Accumulator(4)
        for features, labels in train_iter:
            loss_sum, acc = d2l.train_batch_ch13(
                net, features, labels, loss, trainer, devices, d2l.split_batch
            )
            metric.add(loss_sum, acc, labels.shape[0], labels.size)
        npx.waitall()  # the last step may still be under way
        epochs.append((int(metric[2]), time.perf_counter() - begun))
        test_acc = d2l.evaluate_accuracy_gpus(net, test_iter, d2l.split_batch)
        print(f'loss {metric[0] / metric[2]:.3f}, test acc {test_acc:.3f}')
    return epochs


def train_fine_tuning(net, learning_rate, batch_size=128, num_epochs=5):
    """Train as the chapter does."""
    train_iter = gluon.data.DataLoader(
        train_imgs.transform_first(train_augs), batch_size, shuffle=True
    )
    test_iter = gluon.data.DataLoader(test_imgs.transform_first(test_augs), batch_size)
    devices = d2l.try_all_gpus()
    net.collect_params().reset_ctx(devices)
    net.hybridize()
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(
        net.collect_params(), 'sgd', {'learning_rate': learning_rate, 'wd': 0.001}
    )
    return train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs, devices)


epochs = train_fine_tuning(finetune_net, 0.01, batch_size, num_epochs)
report(epochs, THREADS, 0, ['d2l', 'mxnet'])
