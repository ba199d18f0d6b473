"""The chapter on fine-tuning as the book prints it, PyTorch tab: FOLDER EPOCHS BATCH.

Two things differ: the weights are random, and the loop of ``d2l.train_ch13`` stands here, without
its plot, which needs a notebook and at least five batches an epoch.
"""

import os
import sys
import time

import torch
import torchvision
from d2l import torch as d2l
from measured import report
from torch import nn

data_dir, num_epochs, batch_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

normalize = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
train_augs = torchvision.transforms.Compose(
    [
        torchvision.transforms.RandomResizedCrop(224),
        torchvision.transforms.RandomHorizontalFlip(),
        torchvision.transforms.ToTensor(),
        normalize,
    ]
)
test_augs = torchvision.transforms.Compose(
    [
        torchvision.transforms.Resize(256),
        torchvision.transforms.CenterCrop(224),
        torchvision.transforms.ToTensor(),
        normalize,
    ]
)

finetune_net = torchvision.models.resnet18()
finetune_net.fc = nn.Linear(finetune_net.fc.in_features, 2)
nn.init.xavier_uniform_(finetune_net.fc.weight)


def train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs, devices):
    """Train as ``d2l.train_ch13`` does; return examples and seconds of each epoch's training."""
    epochs = []
    net = nn.DataParallel(net, device_ids=devices).to(devices[0])
    for _ in range(num_epochs):
        begun = time.perf_counter()
        metric = d2l.Accumulator(4)
        for features, labels in train_iter:
            loss_sum, acc = d2l.train_batch_ch13(net, features, labels, loss, trainer, devices)
            metric.add(loss_sum, acc, labels.shape[0], labels.numel())
        epochs.append((int(metric[2]), time.perf_counter() - begun))
        test_acc = d2l.evaluate_accuracy_gpu(net, test_iter)
        print(f'loss {metric[0] / metric[2]:.3f}, test acc {test_acc:.3f}')
    return epochs


def train_fine_tuning(net, learning_rate, batch_size=128, num_epochs=5, param_group=True):
    """Train as the chapter does."""
    train_iter = torch.utils.data.DataLoader(
        torchvision.datasets.ImageFolder(os.path.join(data_dir, 'train'), transform=train_augs),
        batch_size=batch_size,
        shuffle=True,
    )
    test_iter = torch.utils.data.DataLoader(
        torchvision.datasets.ImageFolder(os.path.join(data_dir, 'test'), transform=test_augs),
        batch_size=batch_size,
    )
    devices = d2l.try_all_gpus()
    loss = nn.CrossEntropyLoss(reduction='none')
    params_1x = [
        param for name, param in net.named_parameters() if name not in ['fc.weight', 'fc.bias']
    ]
    trainer = torch.optim.SGD(
        [
            {'params': params_1x},
            {'params': net.fc.parameters(), 'lr': learning_rate * (10 if param_group else 1)},
        ],
        lr=learning_rate,
        weight_decay=0.001,
    )
    return train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs, devices)


epochs = train_fine_tuning(finetune_net, 5e-5, batch_size, num_epochs)
report(epochs, torch.get_num_threads(), 0, ['d2l', 'torch', 'torchvision'])
