"""What the errors of source models say."""

import functools
import math
import sys

import numpy as np
import reference_backend
from conftest import says

from d2l_ft.errors import ModelError, OptionError
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.sources.load import load_source, pretrained_net
from d2l_ft.sources.pretrain import pretrain_in_subprocess
from d2l_ft.sources.weights import read_weights
from d2l_ft.sources.zoo import imagenet_file


def test_a_source_that_is_none(tmp_path):
    assert says(OptionError, load_source, 'none.pth', 'resnet18', reference_backend) == (
        "there is no source 'none.pth': give sample, imagenet, none or a file"
    )
    assert says(ModelError, read_weights, tmp_path / 'a.h5', 'resnet18') == (
        f'{tmp_path / "a.h5"} is no weights file by its name: .safetensors, .pth, .pt and .params '
        'are read'
    )
    assert says(OptionError, pretrained_net, 'resnet18', 'none', reference_backend) == (
        "the source 'none' is no model: give sample, imagenet or a file"
    )


def test_weights_that_no_net_can_compute_with(tmp_path):
    path = tmp_path / 'a.safetensors'
    for name, value, problem in (
        ('fc.weight', math.inf, 'values that are not finite'),
        ('bn1.running_var', -1.0, 'variances below 0'),
    ):
        save_checkpoint(path, Checkpoint({name: np.full(3, value, np.float32)}, meta={'arch': 'x'}))
        assert says(ModelError, load_source, str(path), 'resnet18', reference_backend) == (
            f'{name} has {problem} in {path}: give other weights'
        )


def test_weights_without_an_output_layer(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_checkpoint(path, Checkpoint({'bn1.bias': np.zeros(3, np.float32)}))
    assert f'{path} has no output layer of resnet18, which is needed here: ' in says(
        ModelError, pretrained_net, 'resnet18', str(path), reference_backend
    )


def test_imagenet_weights_that_a_zoo_has_not():
    text = says(ModelError, imagenet_file, 'resnet18_v2', 'pytorch')
    assert text.startswith('pytorch has no ImageNet weights of resnet18_v2; it has: resnet18, ')
    assert text.endswith('or train from scratch,  `source=none`')
    assert 'it has: none; ' in says(ModelError, imagenet_file, 'resnet18', 'reference')


def test_pre_training_that_fails(tmp_path, monkeypatch):
    pretrain = functools.partial(pretrain_in_subprocess, 'resnet18', 'none', 'cpu', bar=False)
    assert says(ModelError, pretrain).startswith("unknown backend 'none': choose one of ")
    for last, text in (
        ('kill -9 $$', 'was killed by signal 9 (out of memory?): free some memory, then run '),
        ('exit 3', 'ended with code 3: its output above tells why'),
    ):
        python = tmp_path / 'python'
        python.write_text(f'#!/bin/sh\n{last}\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, 'executable', str(python))
        assert f'the process that pre-trains resnet18 {text}' in says(ModelError, pretrain)
