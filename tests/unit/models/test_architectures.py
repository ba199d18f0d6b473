"""The architectures: which there are, and the smallest images that train each."""

import numpy as np
import pytest

from d2l_ft.backend.registry import get_backend
from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.runs.settings import Settings


def test_architectures_are_the_eight():
    assert set(ARCHITECTURES) == {
        'resnet18', 'resnet34', 'resnet50', 'resnet18_v2', 'mobilenet_v2', 'vgg11',
        'densenet121', 'squeezenet1_1',
    }  # fmt: skip


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_the_smallest_side_on_which_one_image_trains(arch):
    """PyTorch itself tells."""
    backend = get_backend('pytorch')
    recipe = Settings.of(source='none').optim.recipe('scratch')

    def trains(size):
        net = backend.build_net(arch, 2)
        images = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
        try:
            placed = backend.place(net)
            backend.train_step(placed, backend.build_trainer(placed, recipe),
                               backend.to_batch(images, np.zeros(1, np.int64)))  # fmt: skip
        except ModelError:
            return False
        return True

    alone = ARCHITECTURES[arch].alone
    assert trains(max(alone, 32))
    assert not alone or not trains(alone - 1)
