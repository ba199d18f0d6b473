"""The same seed gives the same bits: twice, and with any number of workers, on the CPU."""

import hashlib

import numpy as np
import pytest
from conftest import THOROUGH, make_folder

from d2l_ft.experiment import Settings, train

ARCHS = ('squeezenet1_1', 'resnet18') if THOROUGH else ('squeezenet1_1',)


def trained(backend, monkeypatch, out, folder, **options):
    """Train; return a hash of each batch, and the run's metrics and weights."""
    seen, step = [], backend.train_step

    def noted(net, trainer, batch, *rest):
        arrays = [each.asnumpy() if hasattr(each, 'asnumpy') else each.numpy() for each in batch]
        seen.append(hashlib.sha256(b''.join(each.tobytes() for each in arrays)).hexdigest())
        return step(net, trainer, batch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(backend, 'train_step', noted)
        settings = Settings(
            str(folder), source='none', epochs=2, batch_size=8, image_size=64, devices='cpu',
            precision='float32', lr=1e-4, momentum=0.9, **options,
        )  # fmt: skip
        run, _ = train(backend, settings, out, bar=False, say=lambda _: None)
    checkpoint, _ = run.load('scratch')
    weights = hashlib.sha256(
        b''.join(checkpoint.model[name].tobytes() for name in sorted(checkpoint.model))
    ).hexdigest()
    metrics = [(each.train_loss, each.train_acc, each.test_acc) for each in run.metrics()]
    return seen, metrics, weights


@pytest.mark.parametrize('arch', ARCHS)
def test_same_seed_same_bits_with_any_workers(framework, arch, tmp_path, monkeypatch, figure):
    folder = make_folder(tmp_path / 'photos', train=12, test=3)
    first = trained(framework, monkeypatch, tmp_path / 'first', folder, arch=arch, workers=0)
    assert len(first[0]) == 6
    assert len(set(first[0])) == 6, 'no batch comes twice'
    for workers in (0, 1, 2):
        again = trained(framework, monkeypatch, tmp_path / f'again{workers}', folder, arch=arch,
                        workers=workers)  # fmt: skip
        assert again == first
    other = trained(framework, monkeypatch, tmp_path / 'other', folder, arch=arch, seed=1)
    assert not set(other[0]) & set(first[0])
    assert other[2] != first[2]
    figure(f'{framework.NAME}, {arch}: 4 of 4 runs bit-equal (workers 0, 0, 1, 2)')


def test_draws_of_the_user_are_left_alone(framework, tmp_path, monkeypatch):
    """NumPy's and Python's generators stand after a training where they stood before."""
    import random

    folder = make_folder(tmp_path / 'photos', train=4, test=2)
    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    trained(framework, monkeypatch, tmp_path / 'run', folder, arch='squeezenet1_1')
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
