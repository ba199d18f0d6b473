"""Weights of known nets and what libraries put around them, for tests."""

import numpy as np

from d2l_ft.models.architectures import architecture
from d2l_ft.models.layouts import BODIES

WRAPPERS = [(), ('state_dict',), ('model',), ('model_state_dict',), ('net',), ('ema',),
            ('state_dict_ema',), ('checkpoint', 'model'), ('state', 0, 'weights')]  # fmt: skip
"""Keys under which a state is nested."""

PREFIXES = ['', 'module.', '_orig_mod.', 'model.', 'net.', 'backbone.', 'encoder.',
            'module._orig_mod.', '_orig_mod.module.', 'model.net.backbone.',
            'my_classifier.']  # fmt: skip
"""What the names of a state begin with."""


def fresh(arch, classes, seed=0):
    """Return a state with an output layer; no value is lost in bfloat16 or float16."""
    wanted = architecture(arch)
    head = {f'{wanted.head}.weight': (classes, wanted.features, *wanted.kernel),
            f'{wanted.head}.bias': (classes,)}  # fmt: skip
    draw, state = np.random.default_rng(seed), {}
    for name, shape in (BODIES[arch] | head).items():
        least = 1 if name.endswith('running_var') else -127
        state[name] = draw.integers(least, 127, shape, np.int8) / np.float32(64)
    return state


def hollow(arch):
    """Return a state that is zeros, and takes no memory."""
    wanted = architecture(arch)
    shapes = BODIES[arch] | {f'{wanted.head}.weight': (3, wanted.features, *wanted.kernel)}
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def renamed(state, table):
    """Return a state under the names of a layout, its statistics with a counter beside."""
    found = {}
    for name, array in state.items():
        layer, _, suffix = name.rpartition('.')
        theirs = table.get(layer, layer)
        found[f'{theirs}.{suffix}'] = array
        if suffix == 'running_var':
            found[f'{theirs}.num_batches_tracked'] = np.array(7)
    return found


def wrapped(state, draw):
    """Return a state with a prefix, in a wrapper, beside what libraries save with it."""
    prefix, keys = draw.choice(PREFIXES), draw.choice(WRAPPERS)
    found = {prefix + name: array for name, array in state.items()}
    if prefix and draw.random() < 0.5:
        found['criterion.weight'] = np.ones(3, np.float32)
    for key in reversed(keys):
        found = {key: found}
    if keys and draw.random() < 0.5:
        moments = {'exp_avg': np.ones(3, np.float32), 'step': 3}
        found |= {
            'epoch': 3, 'global_step': 10, 'lr_schedulers': [{'_last_lr': [0.1]}],
            'optimizer_states': [{'state': {0: moments}, 'param_groups': [{'params': [0]}]}],
            'hyper_parameters': {'lr': 0.1, 'name': 'x'},
        }  # fmt: skip
    return found
