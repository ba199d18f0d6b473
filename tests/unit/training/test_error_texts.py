"""What the errors of the training loop say."""

import math

import numpy as np
import reference_backend
from conftest import says

from d2l_ft.backend.protocol import Sums
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import ModelError, TrainingDiverged
from d2l_ft.training.evaluation import predict
from d2l_ft.training.feature_cache import features
from d2l_ft.training.metrics import Position, accuracy


def test_a_loss_that_is_not_finite():
    sums = Sums(math.nan, 0, 4)
    assert says(TrainingDiverged, Position(epoch=2).add, sums) == (
        'the loss became nan in epoch 3: train again with a smaller learning rate'
    )
    assert says(TrainingDiverged, accuracy, sums) == (
        'the test loss became nan: train again with a smaller learning rate'
    )
    assert says(TrainingDiverged, accuracy, sums, 3) == (
        'the test loss became nan after epoch 3: train again with a smaller learning rate'
    )


def test_a_net_whose_values_overflow(folder):
    placed = reference_backend.place(reference_backend.build_net('resnet18', 2))
    state = reference_backend.get_state(placed)
    reference_backend.set_state(placed, {name: each * np.nan for name, each in state.items()})
    samples = load_folders(folder)[1].samples
    path = samples[0].path
    assert f'the net gives no finite numbers for {path}, as values in it overflow: ' in says(
        ModelError, predict, reference_backend, placed, samples, Pipeline(32)
    )


def test_a_frozen_body_whose_values_overflow(folder):
    net = reference_backend.build_net('resnet18', 2)
    net.scale *= np.nan
    samples = load_folders(folder)[1].samples
    placed = reference_backend.place(net)
    options = reference_backend, placed, 'resnet18', samples, Pipeline(32), 'float32'
    assert says(ModelError, features, *options, bar=False) == (
        'values in the frozen body overflow: train from another `source`'
    )
