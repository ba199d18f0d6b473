"""What the training loop tells its callbacks, and what these do with it."""

import os
import signal

import numpy as np
import pytest
import reference_backend as backend

from d2l_ft.optim.recipe import Recipe
from d2l_ft.training.callbacks import Callback, LogLines, ProgressBar
from d2l_ft.training.metrics import Position
from d2l_ft.training.trainer import Trainer


class Recorder(Callback):
    """Notes each event with epoch and step."""

    def __init__(self):
        self.events = []

    def note(self, event, trainer):
        self.events.append((event, trainer.position.epoch, trainer.position.step))

    def on_train_begin(self, trainer):
        self.note('train begin', trainer)

    def on_epoch_begin(self, trainer):
        self.note('epoch begin', trainer)

    def on_step_end(self, trainer):
        self.note('step end', trainer)

    def on_epoch_end(self, trainer, metrics):
        assert metrics is trainer.history[-1]
        self.note('epoch end', trainer)

    def on_train_end(self, trainer):
        self.note('train end', trainer)


class Batches(list):
    """Batches that can begin within an epoch."""

    def set_epoch(self, _, start=0):
        self.start = start

    def __iter__(self):
        return iter(list(super().__iter__())[self.start :])


def training(*callbacks, epochs=2, **options):
    """Return a training of three steps an epoch, of the reference backend."""
    net = backend.build_net('resnet18', 2)
    placed = backend.place(net, backend.devices('cpu'))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, *IMAGE)).astype(np.float32)
    tests = [backend.to_batch(images, np.array([0, 1, 0, 1]))]
    batches = Batches(tests * 3)
    optimizer = backend.build_trainer(placed, Recipe(0.01))
    return Trainer(
        backend, placed, optimizer, batches, tests, epochs, callbacks=callbacks, **options
    )


IMAGE = (3, 8, 8)

WHOLE = [
    ('train begin', 0, 0),
    ('epoch begin', 0, 0), ('step end', 0, 1), ('step end', 0, 2), ('step end', 0, 3),
    ('epoch end', 1, 0),
    ('epoch begin', 1, 0), ('step end', 1, 1), ('step end', 1, 2), ('step end', 1, 3),
    ('epoch end', 2, 0),
    ('train end', 2, 0),
]  # fmt: skip


def test_events_come_in_order():
    seen = Recorder()
    history = training(seen).fit()
    assert seen.events == WHOLE
    assert [each.epoch for each in history] == [1, 2]


def test_a_resumed_training_tells_what_is_left():
    seen = Recorder()
    training(seen, position=Position(epoch=1, step=2)).fit()
    assert seen.events == [('train begin', 1, 2), ('epoch begin', 1, 2), *WHOLE[-3:]]


def test_a_signal_ends_it_after_the_step():
    class Signals(Recorder):
        def on_step_end(self, trainer):
            super().on_step_end(trainer)
            if trainer.position.step == 1:
                os.kill(os.getpid(), signal.SIGINT)

    seen = Signals()
    ended = training(seen)
    assert ended.fit() == []
    assert ended.interrupted == signal.SIGINT
    assert seen.events == [*WHOLE[:4], ('train end', 0, 2)]


def test_an_error_of_a_callback_ends_it_and_the_others_are_told():
    class Fails(Callback):
        def on_epoch_end(self, trainer, metrics):
            raise OSError('no room')

    seen = Recorder()
    ended = training(Fails(), seen)
    with pytest.raises(OSError, match='no room') as caught:
        ended.fit()
    assert ended.error is caught.value
    assert seen.events == [*WHOLE[:5], ('train end', 1, 0)]


def test_the_bar_is_closed_whatever_happens(capsys):
    class Fails(Callback):
        def on_train_begin(self, trainer):
            raise OSError('no room')

    bar = ProgressBar()
    training(bar).fit()
    assert bar.bar.disable
    with pytest.raises(OSError, match='no room'):
        training(Fails(), ProgressBar()).fit()  # of which the bar has not begun
    assert capsys.readouterr().err == ''


def test_a_log_gets_a_line_when_it_is_time(monkeypatch):
    lines = []
    training(LogLines(lines.append, seconds=0), name='mine', epochs=1).fit()
    assert lines[0].startswith('mine epoch 1/1, step 1/3')
    assert len(lines) == 3
    lines.clear()
    training(LogLines(lines.append)).fit()
    assert lines == [], 'it took less than 30 s'
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    training(LogLines(lines.append, seconds=0)).fit()
    assert lines == [], 'a terminal has the bar'
