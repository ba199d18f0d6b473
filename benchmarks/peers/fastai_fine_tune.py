"""Fine-tuning with fastai: FOLDER EPOCHS BATCH.

``fine_tune`` would first train the head alone for an epoch; ``freeze_epochs=0`` leaves that out,
so that all epochs are of the whole net. The number of workers is fastai's default.
"""

import sys
import time

import torch
from fastai.vision.all import (
    SGD,
    Callback,
    Flip,
    ImageDataLoaders,
    Normalize,
    RandomResizedCrop,
    accuracy,
    imagenet_stats,
    resnet18,
    vision_learner,
)
from measured import report

folder, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Clock(Callback):
    """Note examples and seconds of each epoch's training."""

    def __init__(self):
        self.epochs = []

    def before_train(self):
        """Begin an epoch."""
        self.examples, self.begun = 0, time.perf_counter()

    def after_batch(self):
        """Count a batch."""
        if self.training:
            self.examples += len(self.xb[0])

    def after_train(self):
        """End the epoch's training."""
        self.epochs.append((self.examples, time.perf_counter() - self.begun))


dls = ImageDataLoaders.from_folder(
    folder,
    train='train',
    valid='test',
    bs=batch,
    item_tfms=RandomResizedCrop(224, min_scale=0.08),  # for the test 255 pixels, then the centre
    batch_tfms=[Flip(), Normalize.from_stats(*imagenet_stats)],
)
clock = Clock()
learn = vision_learner(dls, resnet18, pretrained=False, opt_func=SGD, metrics=accuracy, cbs=clock)
learn.fine_tune(epochs, base_lr=0.01, freeze_epochs=0)
print()
packages = ['fastai', 'torch', 'torchvision']
report(clock.epochs, torch.get_num_threads(), dls.train.fake_l.num_workers, packages)
