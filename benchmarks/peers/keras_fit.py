"""Training with Keras 3 on its PyTorch backend: FOLDER EPOCHS BATCH.

``keras.applications`` has no ResNet-18, so it is built here. ``image_dataset_from_directory``
needs TensorFlow or Grain, and Keras has no crop of random size and ratio: the images come from
torchvision, whose loader ``fit`` takes.
"""

import os

os.environ['KERAS_BACKEND'] = 'torch'

import sys
import time

import keras
import torch
from keras import layers
from measured import report
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

keras.config.set_image_data_format('channels_first')  # PyTorch's own
folder, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def convolution(x, filters, size, stride):
    """Return a convolution, padded as in PyTorch, with its batch normalisation."""
    x = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
    x = layers.Conv2D(filters, size, stride, use_bias=False)(x)
    return layers.BatchNormalization(axis=1, momentum=0.9, epsilon=1e-5)(x)


def resnet18(classes):
    """Return a ResNet-18, version 1, with the layers of torchvision's."""
    inputs = keras.Input((3, 224, 224))
    x = layers.ReLU()(convolution(inputs, 64, 7, 2))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))  # zeros do, as x is not negative
    for filters in (64, 128, 256, 512):
        for number in range(2):
            stride = 2 if number == 0 and filters > 64 else 1
            shortcut = x if stride == 1 else convolution(x, filters, 1, stride)
            x = layers.ReLU()(convolution(x, filters, 3, stride))
            x = layers.ReLU()(layers.Add()([convolution(x, filters, 3, 1), shortcut]))
    return keras.Model(inputs, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


class Clock(keras.callbacks.Callback):
    """Note examples and seconds of each epoch's training; the test follows within the epoch."""

    def __init__(self, examples):
        super().__init__()
        self.examples, self.epochs = examples, []

    def on_epoch_begin(self, epoch, logs=None):
        """Begin an epoch."""
        self.begun = time.perf_counter()

    def on_test_begin(self, logs=None):
        """End its training."""
        self.epochs.append((self.examples, time.perf_counter() - self.begun))


normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
train_transform = transforms.Compose(
    [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        normalize,
    ]
)
test_transform = transforms.Compose(
    [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalize]
)
train_images = ImageFolder(os.path.join(folder, 'train'), train_transform)
test_images = ImageFolder(os.path.join(folder, 'test'), test_transform)

model = resnet18(2)
model.compile(
    optimizer=keras.optimizers.SGD(0.01, weight_decay=0.001),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=['accuracy'],
)
clock = Clock(len(train_images))
model.fit(
    DataLoader(train_images, batch, shuffle=True),
    validation_data=DataLoader(test_images, batch),
    epochs=epochs,
    callbacks=[clock],
    verbose=2,
)
report(clock.epochs, torch.get_num_threads(), 0, ['keras', 'torch', 'torchvision'])
