"""Training with timm, as its train.py does it: FOLDER EPOCHS BATCH [amp].

``amp`` is what its options --amp --amp-dtype bfloat16 --channels-last switch on. Four workers and
the prefetcher are its defaults; its colour jitter and random interpolation are left out.
"""

import contextlib
import functools
import sys
import time

import timm
import torch
from measured import report
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, accuracy
from torch import nn

WORKERS = 4
folder, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
amp = 'amp' in sys.argv[4:]
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
layout = torch.channels_last if amp else torch.contiguous_format
amp_autocast = contextlib.nullcontext
if amp:
    amp_autocast = functools.partial(torch.autocast, device.type, dtype=torch.bfloat16)


def loader(split, is_training):
    """Return the batches of a part of the folder."""
    return create_loader(
        create_dataset('', folder, split=split, is_training=is_training, batch_size=batch),
        input_size=(3, 224, 224),
        batch_size=batch,
        is_training=is_training,
        color_jitter=None,
        interpolation='bilinear',
        crop_pct=224 / 256,
        num_workers=WORKERS,
        device=device,
    )


def train_one_epoch(model, loader, optimizer, loss_fn):
    """Train; return the number of examples."""
    model.train()
    examples, losses = 0, AverageMeter()
    for input, target in loader:
        input = input.contiguous(memory_format=layout)
        optimizer.zero_grad()
        with amp_autocast():
            loss = loss_fn(model(input), target)
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), input.size(0))
        examples += input.size(0)
    return examples


def validate(model, loader):
    """Return the accuracy in percent."""
    model.eval()
    top1 = AverageMeter()
    with torch.inference_mode():
        for input, target in loader:
            with amp_autocast():
                output = model(input.contiguous(memory_format=layout))
            top1.update(accuracy(output, target)[0].item(), input.size(0))
    return top1.avg


model = timm.create_model('resnet18', pretrained=False, num_classes=2)
model = model.to(device=device, memory_format=layout)
optimizer = create_optimizer_v2(model, opt='sgd', lr=0.01, weight_decay=0.001)
loss_fn = nn.CrossEntropyLoss()
train_loader, test_loader = loader('train', True), loader('test', False)
measured = []
for _ in range(epochs):
    begun = time.perf_counter()
    examples = train_one_epoch(model, train_loader, optimizer, loss_fn)
    measured.append((examples, time.perf_counter() - begun))
    print(f'test acc {validate(model, test_loader):.1f} %')
report(measured, torch.get_num_threads(), WORKERS, ['timm', 'torch', 'torchvision'])
