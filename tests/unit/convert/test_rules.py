"""What each rule refuses, and why: a value that it would have wrong must not come out."""

import ast
from pathlib import Path

import numpy as np
import pytest
import symbols

from d2l_ft.convert import rules
from d2l_ft.errors import ModelError

STORED = symbols.arrays(
    w=(4, 3, 3, 3), d=(3, 4, 3, 3), w4=(4, 3, 3, 3, 3, 3), flat=(2, 3), one=(3,), up=(3, 1, 5, 5)
)

NORM = ('one', 'one', 'one', 'one')

IMAGES = (1, 3, 8, 8)

REFUSED = [
    (
        'FullyConnected',
        ('flat', 'one'),
        {'num_hidden': '3'},
        'num_hidden=3, while its weight gives 2',
    ),
    (
        'Convolution',
        ('w',),
        {'kernel': '(3, 3)', 'num_filter': '5'},
        'num_filter=5, while its weight gives 4',
    ),
    (
        'Deconvolution',
        ('d',),
        {'kernel': '(3, 3)', 'num_filter': '6', 'num_group': '2'},
        'num_filter=6, while its weight gives 8',
    ),
    # operator, inputs after the data, attributes, why
    ('Convolution', ('w',), {'kernel': '()'}, 'kernel=()'),
    ('Convolution', ('w4',), {'kernel': '(3, 3, 3, 3)'}, 'kernel=(3, 3, 3, 3)'),
    ('Convolution', ('w',), {'kernel': '(3, 3)', 'layout': 'NHWC'}, 'layout=NHWC'),
    ('Convolution', ('w',), {'kernel': '(3, 3)', 'stride': '(1,)'}, 'stride=(1,) has not 2 values'),
    (
        'Convolution',
        ('w',),
        {'kernel': '(99999, 99999)', 'no_bias': 'True'},
        'kernel=(99999, 99999), while its weight is of (3, 3)',
    ),
    (
        'Convolution',
        ('one',),
        {'kernel': '(3, 3)'},
        'its attributes do not fit parameters of (3,)',
    ),
    ('Deconvolution', ('d',), {'kernel': '(3, 3, 3, 3)'}, 'kernel=(3, 3, 3, 3)'),
    (
        'Deconvolution',
        ('d',),
        {'kernel': '(3, 3)', 'target_shape': '(9, 9)'},
        'target_shape, which makes the padding depend on the input',
    ),
    ('Deconvolution', ('d',), {'kernel': '(2, 2)'}, 'kernel=(2, 2), while its weight is of (3, 3)'),
    (
        'FullyConnected',
        ('w', 'one'),
        {},
        'its attributes do not fit parameters of (4, 3, 3, 3) and (3,)',
    ),
    (
        'BatchNorm',
        NORM,
        {'output_mean_var': 'True'},
        'output_mean_var, which gives the statistics too',
    ),
    ('LayerNorm', ('one', 'one'), {'axis': '1'}, 'axis=1'),
    ('Dropout', (), {'axes': '(1,)'}, 'axes'),
    ('Activation', (), {'act_type': 'new'}, 'act_type=new'),
    ('LeakyReLU', (), {'act_type': 'new'}, 'act_type=new'),
    ('softmax', (), {'use_length': 'True'}, 'use_length'),
    ('Pooling', (), {'kernel': '(2, 2, 2, 2)'}, 'kernel=(2, 2, 2, 2)'),
    ('Pooling', (), {'global_pool': '1', 'pool_type': 'lp'}, 'pool_type=lp'),
    ('Pooling', (), {'kernel': '(2, 2)', 'pooling_convention': 'same'}, 'pooling_convention=same'),
    ('Pooling', (), {}, 'pooling_convention=valid'),
    (
        'Pooling',
        (),
        {'kernel': '(2, 2)', 'pad': '(2, 2)'},
        'pad=(2, 2) is more than half of kernel=(2, 2)',
    ),
    ('Pooling', (), {'kernel': '(2, 2)', 'pool_type': 'new'}, 'pool_type=new'),
    ('BilinearResize2D', (), {'mode': 'odd_scale'}, 'mode=odd_scale'),
    (
        'BilinearResize2D',
        (),
        {'align_corners': 'False', 'height': '1', 'width': '4'},
        'align_corners=False with one pixel',
    ),
    (
        'UpSampling',
        ('up',),
        {'scale': '2', 'sample_type': 'bilinear'},
        'kernel=(4, 4), while its weight is of (5, 5)',
    ),
    ('Pad', (), {'pad_width': '(1, 1, 0, 0)'}, 'pad_width=(1, 1, 0, 0)'),
    ('Pad', (), {'pad_width': '(0, 0, 0, 0, 1, 1)', 'mode': 'new'}, 'mode=new'),
    ('Reshape', (), {}, 'no shape'),
    ('Reshape', (), {'shape': '(-2,)', 'reverse': '1'}, 'reverse with the codes -2 or -4'),
    ('Reshape', (), {'shape': '(-4, 0, 2)'}, 'shape=(-4, 0, 2)'),
    ('Reshape', (), {'shape': '(-4, -1, -1)'}, 'shape=(-4, -1, -1)'),
    ('Reshape', (), {'shape': '(-9,)'}, 'shape=(-9,)'),
    ('slice', (), {'begin': '(0,)', 'end': '(1, 2)'}, 'begin=(0,), end=(1, 2)'),
    ('slice', (), {'begin': '(0,)', 'end': '(1,)', 'step': '(-1,)'}, 'step=(-1,)'),
    ('slice_like', ('data2',), {}, 'no axes'),
    ('slice_like', ('data2',), {'axes': '(-1,)'}, 'axes=(-1,)'),
    ('broadcast_like', ('data2',), {'lhs_axes': '(0,)'}, 'lhs_axes and rhs_axes'),
    ('broadcast_axis', (), {'axis': '1', 'size': '(2, 3)'}, 'axis=(1,)'),
    ('InstanceNorm', ('one', 'one'), {}, 'an input of 2 dimensions', {'data': (1, 3)}),
    ('sum', (), {'exclude': 'True', 'axis': '1'}, 'exclude'),
    ('sum', (), {'keepdims': 'True'}, 'keepdims without axis'),
    ('prod', (), {'axis': '(1, 2)'}, 'axis=(1, 2)'),
    ('L2Normalization', (), {'mode': 'new'}, 'mode=new'),
    ('L2Normalization', (), {}, 'mode=instance'),
    ('LRN', (), {'nsize': '4'}, 'nsize=4'),
    ('dot', ('data2',), {}, 'more than two dimensions', {'data': IMAGES, 'data2': IMAGES}),
    ('Cast', (), {'dtype': 'new'}, 'dtype=new'),
    ('relu', ('one',), {}, 'inputs: 2'),
    ('elemwise_add', (), {}, 'inputs: 1'),
]


def refused(case):
    """Return the error with which a case is refused."""
    op, others, attrs, _, *shapes = case
    inner = [*dict.fromkeys(('data', *others))]
    text = symbols.symbol(*inner, (op, 'n', ['data', *others], attrs))
    with pytest.raises(ModelError) as caught:
        symbols.translated(text, STORED, shapes=shapes[0] if shapes else {})
    return caught


@pytest.mark.parametrize('case', REFUSED)
def test_what_a_rule_refuses(case):
    assert str(refused(case).value) == (
        f"{case[0]} 'n' cannot be translated ({case[3]}): give a node before it as `until`"
    )


def test_every_place_where_a_rule_refuses_was_seen():
    path = Path(rules.__file__)
    places = {
        node.lineno for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise)
    }  # fmt: skip
    seen = {
        entry.lineno + 1
        for case in REFUSED
        for entry in refused(case).traceback
        if Path(str(entry.path)) == path
    }
    assert sorted(places - seen) == []


def test_the_states_of_a_batch_norm_are_needed():
    text = symbols.symbol('data', ('BatchNorm', 'bn', ['data'], {}))
    _, why = symbols.tried(symbols.translated, text, symbols.arrays(bn_gamma=(3,)))
    assert (
        why == "BatchNorm 'bn' needs 'bn_beta', which the parameters lack: give those of this net"
    )


def test_numbers_are_those_that_mxnet_keeps():
    assert rules.float32(0.1) == float(np.float32(0.1)) != 0.1
    text = symbols.symbol('data', ('clip', 'n', ['data'], {'a_min': '-0.1', 'a_max': '3.4e38'}))
    source = symbols.translated(text, {})
    symbols.check_source(source)
    assert f'x.clamp(-{float(np.float32(0.1))!r}, {float(np.float32(3.4e38))!r})' in source.text
