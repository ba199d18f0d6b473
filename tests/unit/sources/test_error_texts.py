"""What the errors of source models say."""

import functools
import math
import sys

import numpy as np
import reference_backend
from conftest import says
from weights import fresh

from d2l_ft.errors import ModelError, OptionError
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.models.gluon_params import write_params
from d2l_ft.runs.export import gluon_arrays
from d2l_ft.sources.load import load_source, pretrained_net
from d2l_ft.sources.pretrain import pretrain_in_subprocess
from d2l_ft.sources.weights import read_weights
from d2l_ft.sources.zoo import imagenet_file


def test_a_source_that_is_none(tmp_path):
    assert says(OptionError, load_source, 'none.pth', 'resnet18', reference_backend) == (
        "there is no source 'none.pth': give sample, imagenet, none or a file"
    )
    path = tmp_path / 'a.pth'
    path.write_bytes(b'\x89HDF\r\n\x1a\n')
    assert says(ModelError, read_weights, path, 'resnet18') == (
        f'{path} is an HDF5 file, as Keras writes, and no weights file: give a file of '
        'safetensors, torch.save or Gluon'
    )
    assert says(OptionError, pretrained_net, 'resnet18', 'none', reference_backend) == (
        "the source 'none' is no model: give sample, imagenet or a file"
    )


def test_weights_of_gluon_of_another_architecture(tmp_path):
    path = tmp_path / 'a.params'
    write_params(path, gluon_arrays(fresh('squeezenet1_1', 3), 'squeezenet1_1'))
    assert says(ModelError, read_weights, path, 'resnet18') == (
        f'{path} has weights of squeezenet1_1, not of resnet18: give `arch=squeezenet1_1`'
    )


def test_weights_that_no_net_can_compute_with(tmp_path):
    path = tmp_path / 'a.safetensors'
    for name, value, problem in (
        ('fc.weight', math.inf, 'values that are not finite'),
        ('bn1.running_var', -1.0, 'variances below 0'),
    ):
        state = fresh('resnet18', 3)
        state[name] = np.full_like(state[name], value)
        save_checkpoint(path, Checkpoint(state, meta={'arch': 'x'}))
        assert says(ModelError, load_source, str(path), 'resnet18', reference_backend) == (
            f'{name} has {problem} in {path}: give other weights'
        )


def test_weights_without_an_output_layer(tmp_path):
    path = tmp_path / 'a.safetensors'
    state = {name: each for name, each in fresh('resnet18', 3).items() if name[:3] != 'fc.'}
    save_checkpoint(path, Checkpoint(state))
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
