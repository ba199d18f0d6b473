"""A rule for each operator of MXNet: the line of PyTorch that computes the same.

A rule gets a ``Line`` and returns the expression of the node's value. Defaults are those of MXNet
1.9's sources (src/operator/**/*-inl.h); what it keeps as a float32 number is rounded to one. An
attribute that no rule asks for is refused, so that nothing of a graph is left out unseen.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from d2l_ft.convert.graph import MOST_AXES, Attributes, Node
from d2l_ft.errors import ModelError


def float32(value: float) -> float:
    """Return a number as MXNet keeps it where an attribute is a C++ float."""
    return float(np.float32(value))


class Line(Protocol):
    """What a rule may ask about its node, and add to the module."""

    node: Node
    attrs: Attributes
    keep_softmax: bool
    is_head: bool

    def x(self, number: int = 0) -> str:
        """Return the expression of an input, a variable's name."""

    def xs(self) -> list[str]:
        """Return the expressions of all inputs."""

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of an input that is a stored array."""

    def rank(self, number: int = 0) -> int | None:
        """Return the number of dimensions of an input, or None where it is not known."""

    def module(self, constructor: str, **parameters: int) -> str:
        """Add a layer to the module, and return the expression of it.

        Args:
            constructor: Such as 'nn.Linear(8, 2)'.
            **parameters: PyTorch's name of a parameter -> the number of the input that it is.
        """

    def helper(self, name: str) -> str:
        """Put a helper of ``source.HELPERS`` into the file, and return its name."""

    def refuse(self, why: str) -> ModelError:
        """Return the error that this node cannot be translated."""


Rule = Callable[[Line], str]

RULES: dict[str, Rule] = {}
"""Operator -> its rule."""


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, function))
        return function

    return register


# --- Layers ---------------------------------------------------------------------------------------


def side(values: Sequence[int]) -> str:
    """Return a tuple as source, a single number where all are equal."""
    return str(values[0]) if len(set(values)) == 1 else repr(tuple(values))


def options(**values: tuple[object, object]) -> str:
    """Return keyword arguments as source: name=(value, PyTorch's default)."""
    return ''.join(
        f', {name}={value}' for name, (value, default) in values.items() if value != default
    )


def per_side(line: Line, name: str, dims: int, default: int) -> tuple[int, ...]:
    """Return an attribute with a value for each side of an image, () being the default."""
    values = line.attrs.integers(name) or (default,) * dims
    if len(values) != dims:
        raise line.refuse(f'{name}={values} has not {dims} values')
    return values


def check_layout(line: Line, dims: int) -> None:
    """Refuse channels that come last."""
    layout = line.attrs.text('layout', 'None')
    if layout not in ('None', 'NCW', 'NCHW', 'NCDHW'):
        raise line.refuse(f'layout={layout}')


def check_kernel(line: Line, kernel: Sequence[int], sides: Sequence[int]) -> None:
    """Refuse a weight of another size: a layer of the attribute's size could fill the memory."""
    if tuple(kernel) != tuple(sides):
        raise line.refuse(f'kernel={tuple(kernel)}, while its weight is of {tuple(sides)}')


def check_width(line: Line, name: str, width: int) -> None:
    """Refuse a weight with another number of outputs: it is another net's."""
    if line.attrs.integer(name, width) != width:
        raise line.refuse(f'{name}={line.node.attrs[name]}, while its weight gives {width}')


@rule('Convolution')
def convolution(line: Line) -> str:
    kernel = line.attrs.integers('kernel')
    dims = len(kernel)
    if not 1 <= dims <= 3:
        raise line.refuse(f'kernel={kernel}')
    check_layout(line, dims)
    groups = line.attrs.integer('num_group', 1)
    biased = not line.attrs.truth('no_bias', default=False)
    filters, narrow, *sides = line.shape(1)
    check_kernel(line, kernel, sides)
    check_width(line, 'num_filter', filters)
    layer = line.module(
        f'nn.Conv{dims}d({narrow * groups}, {filters}, {side(kernel)}'
        + options(
            stride=(side(per_side(line, 'stride', dims, 1)), '1'),
            padding=(side(per_side(line, 'pad', dims, 0)), '0'),
            dilation=(side(per_side(line, 'dilate', dims, 1)), '1'),
            groups=(groups, 1),
            bias=(biased, True),
        )
        + ')',
        weight=1,
        **({'bias': 2} if biased else {}),
    )
    return f'{layer}({line.x()})'


@rule('Deconvolution')
def deconvolution(line: Line) -> str:
    kernel = line.attrs.integers('kernel')
    dims = len(kernel)
    if not 1 <= dims <= 3:
        raise line.refuse(f'kernel={kernel}')
    check_layout(line, dims)
    if any(line.attrs.integers('target_shape')):
        raise line.refuse('target_shape, which makes the padding depend on the input')
    groups = line.attrs.integer('num_group', 1)
    biased = not line.attrs.truth('no_bias', default=True)
    wide, narrow, *sides = line.shape(1)
    check_kernel(line, kernel, sides)
    check_width(line, 'num_filter', narrow * groups)
    layer = line.module(
        f'nn.ConvTranspose{dims}d({wide}, {narrow * groups}, {side(kernel)}'
        + options(
            stride=(side(per_side(line, 'stride', dims, 1)), '1'),
            padding=(side(per_side(line, 'pad', dims, 0)), '0'),
            output_padding=(side(per_side(line, 'adj', dims, 0)), '0'),
            groups=(groups, 1),
            bias=(biased, True),
            dilation=(side(per_side(line, 'dilate', dims, 1)), '1'),
        )
        + ')',
        weight=1,
        **({'bias': 2} if biased else {}),
    )
    return f'{layer}({line.x()})'


@rule('FullyConnected')
def fully_connected(line: Line) -> str:
    biased = not line.attrs.truth('no_bias', default=False)
    units, width = line.shape(1)
    check_width(line, 'num_hidden', units)
    flat = line.attrs.truth('flatten', default=True) and line.rank() != 2
    layer = line.module(
        f'nn.Linear({width}, {units}{options(bias=(biased, True))})',
        weight=1,
        **({'bias': 2} if biased else {}),
    )
    return f'{layer}({line.x()}{".flatten(1)" if flat else ""})'


@rule('BatchNorm')
def batch_norm(line: Line) -> str:
    eps = line.attrs.number('eps', float32(1e-3))
    momentum = 1 - float32(line.attrs.number('momentum', float32(0.9)))
    fixed = line.attrs.truth('fix_gamma', default=True)
    still = line.attrs.truth('use_global_stats', default=False)
    axis = line.attrs.axis('axis', 1)
    if line.attrs.truth('output_mean_var', default=False):
        raise line.refuse('output_mean_var, which gives the statistics too')
    rank = line.rank()
    kind = {2: 'nn.BatchNorm1d', 3: 'nn.BatchNorm1d', 4: 'nn.BatchNorm2d', 5: 'nn.BatchNorm3d'}
    name = kind.get(rank or 0) or line.helper('BatchNorm')
    if still:
        name = line.helper('StillBatchNorm')
    layer = f'{name}({line.shape(1)[0]}, eps={eps!r}, momentum={momentum!r})'
    if fixed:
        layer = f'{line.helper("fixed_scale")}({layer})'
    made = line.module(layer, weight=1, bias=2, running_mean=3, running_var=4)
    if axis in (1, -1 if rank == 2 else 1):
        return f'{made}({line.x()})'
    return f'{made}({line.x()}.movedim({axis}, 1)).movedim(1, {axis})'


@rule('LayerNorm')
def layer_norm(line: Line) -> str:
    if line.attrs.axis('axis', -1) != -1:
        raise line.refuse(f'axis={line.node.attrs["axis"]}')
    line.attrs.truth('output_mean_var', default=False)
    eps = float32(line.attrs.number('eps', 1e-5))
    layer = line.module(f'nn.LayerNorm({line.shape(1)[0]}, eps={eps!r})', weight=1, bias=2)
    return f'{layer}({line.x()})'


@rule('InstanceNorm')
def instance_norm(line: Line) -> str:
    eps = float32(line.attrs.number('eps', 1e-3))
    dims = (line.rank() or 4) - 2
    if not 1 <= dims <= 3:
        raise line.refuse(f'an input of {line.rank()} dimensions')
    layer = line.module(
        f'nn.InstanceNorm{dims}d({line.shape(1)[0]}, eps={eps!r}, affine=True)', weight=1, bias=2
    )
    return f'{layer}({line.x()})'


@rule('Embedding')
def embedding(line: Line) -> str:
    rows, width = line.shape(1)
    for name in ('input_dim', 'output_dim'):
        line.attrs.integer(name, 0)
    line.attrs.text('dtype', '')
    line.attrs.truth('sparse_grad', default=False)
    return f'{line.module(f"nn.Embedding({rows}, {width})", weight=1)}({line.x()}.long())'


@rule('Dropout')
def dropout(line: Line) -> str:
    p = float32(line.attrs.number('p', 0.5))
    if line.attrs.integers('axes'):
        raise line.refuse('axes')
    if line.attrs.text('mode', 'training') == 'always':
        return f'F.dropout({line.x()}, {p!r})'
    return f'{line.module(f"nn.Dropout({p!r})")}({line.x()})'


# --- Activations ----------------------------------------------------------------------------------

ACTIVATIONS = {
    'relu': 'F.relu({})',
    'sigmoid': 'torch.sigmoid({})',
    'tanh': 'torch.tanh({})',
    'softrelu': 'F.softplus({})',
    'softsign': 'F.softsign({})',
    'log_sigmoid': 'F.logsigmoid({})',
    'mish': 'F.mish({})',
}


@rule('Activation')
def activation(line: Line) -> str:
    kind = line.attrs.text('act_type', '')
    if kind not in ACTIVATIONS:
        raise line.refuse(f'act_type={kind}')
    return ACTIVATIONS[kind].format(line.x())


@rule('LeakyReLU')
def leaky_relu(line: Line) -> str:
    kind = line.attrs.text('act_type', 'leaky')
    slope = float32(line.attrs.number('slope', 0.25))
    low = float32(line.attrs.number('lower_bound', 0.125))
    high = float32(line.attrs.number('upper_bound', 0.334))
    if kind == 'prelu':
        size = int(np.prod(line.shape(1)))
        return f'{line.module(f"nn.PReLU({size})", weight=1)}({line.x()})'
    forms = {
        'leaky': f'F.leaky_relu({line.x()}, {slope!r})',
        'elu': f'F.elu({line.x()}, {slope!r})',
        'selu': f'F.selu({line.x()})',
        'gelu': f'F.gelu({line.x()})',
        'rrelu': f'F.rrelu({line.x()}, {low!r}, {high!r}, self.training)',
    }
    if kind not in forms:
        raise line.refuse(f'act_type={kind}')
    return forms[kind]


@rule('hard_sigmoid')
def hard_sigmoid(line: Line) -> str:
    slope = float32(line.attrs.number('alpha', 0.2))
    shift = float32(line.attrs.number('beta', 0.5))
    return f'({slope!r} * {line.x()} + {shift!r}).clamp(0, 1)'


@rule('softmax', 'log_softmax')
def softmax(line: Line) -> str:
    axis = line.attrs.axis('axis', -1)
    heat = line.attrs.number('temperature', 1.0)
    line.attrs.text('dtype', '')
    if line.attrs.truth('use_length', default=False):
        raise line.refuse('use_length')
    if line.is_head and not line.keep_softmax:
        return line.x()
    x = line.x() if heat == 1 else f'{line.x()} / {heat!r}'
    return f'F.{line.node.op}({x}, dim={axis})'


@rule('SoftmaxActivation')
def softmax_activation(line: Line) -> str:
    mode = line.attrs.text('mode', 'instance')
    if line.is_head and not line.keep_softmax:
        return line.x()
    if mode == 'channel' or line.rank() == 2:
        return f'F.softmax({line.x()}, dim=1)'
    return f'F.softmax({line.x()}.flatten(1), dim=1).view_as({line.x()})'


# --- Losses, of which the forward value stays -----------------------------------------------------

LOSS = frozenset({
    'SoftmaxOutput', 'LinearRegressionOutput', 'LogisticRegressionOutput', 'MAERegressionOutput',
    'MakeLoss', 'make_loss', 'SVMOutput',
})  # fmt: skip
"""Operators at the end of a Module's net: their gradient is a loss's, their value a prediction."""


@rule('SoftmaxOutput')
def softmax_output(line: Line) -> str:
    for name in ('grad_scale', 'ignore_label', 'smooth_alpha', 'normalization'):
        line.attrs.text(name, '')  # of the gradient
    for name in ('use_ignore', 'out_grad'):
        line.attrs.text(name, '')
    many = line.attrs.truth('multi_output', default=False)
    last = line.attrs.truth('preserve_shape', default=False)
    if line.is_head and not line.keep_softmax:
        return line.x()
    if last or many or line.rank() == 2:
        return f'F.softmax({line.x()}, dim={-1 if last else 1})'
    return f'F.softmax({line.x()}.flatten(1), dim=1).view_as({line.x()})'


@rule('LogisticRegressionOutput')
def logistic_output(line: Line) -> str:
    line.attrs.text('grad_scale', '')
    if line.is_head and not line.keep_softmax:
        return line.x()
    return f'torch.sigmoid({line.x()})'


@rule(
    'LinearRegressionOutput', 'MAERegressionOutput', 'MakeLoss', 'make_loss', 'SVMOutput', '_copy',
)  # fmt: skip
def same(line: Line) -> str:
    for name in (
        'grad_scale', 'valid_thresh', 'normalization', 'margin', 'regularization_coefficient',
        'use_linear',
    ):  # fmt: skip
        line.attrs.text(name, '')
    return line.x()


@rule('BlockGrad')
def block_grad(line: Line) -> str:
    return f'{line.x()}.detach()'


# --- Pooling and resizing -------------------------------------------------------------------------


@rule('Pooling')
def pooling(line: Line) -> str:
    kind = line.attrs.text('pool_type', 'max')
    kernel = line.attrs.integers('kernel')
    dims = len(kernel) or (line.rank() or 4) - 2
    if not 1 <= dims <= 3:
        raise line.refuse(f'kernel={kernel}')
    check_layout(line, dims)
    stride, pad = per_side(line, 'stride', dims, 1), per_side(line, 'pad', dims, 0)
    convention = line.attrs.text('pooling_convention', 'valid')
    padded = line.attrs.truth('count_include_pad', default=True)
    power = line.attrs.integer('p_value', 2)
    if line.attrs.truth('global_pool', default=False):
        forms = {
            'avg': f'F.adaptive_avg_pool{dims}d({line.x()}, 1)',
            'max': f'F.adaptive_max_pool{dims}d({line.x()}, 1)',
            'sum': f'{line.x()}.sum({tuple(range(2, dims + 2))}, keepdim=True)',
        }
        if kind not in forms:
            raise line.refuse(f'pool_type={kind}')
        return forms[kind]
    if convention not in ('valid', 'full') or not kernel:
        raise line.refuse(f'pooling_convention={convention}')
    x = line.x()
    common = f'{side(kernel)}, {side(stride)}' + options(
        padding=(side(pad), '0'),
        ceil_mode=(convention == 'full', False),
    )
    if any(2 * each > size for each, size in zip(pad, kernel, strict=True)):
        raise line.refuse(f'pad={pad} is more than half of kernel={kernel}')
    if kind == 'max':
        return f'F.max_pool{dims}d({x}, {common})'
    if kind == 'avg':
        count = options(count_include_pad=(padded, True)) if any(pad) else ''
        return f'F.avg_pool{dims}d({x}, {common}{count})'
    if kind == 'sum' and convention == 'valid':
        return f'F.avg_pool{dims}d({x}, {common}) * {int(np.prod(kernel))}'
    if kind == 'lp' and not any(pad) and convention == 'valid' and dims < 3:
        return f'F.lp_pool{dims}d({x}, {power}, {side(kernel)}, {side(stride)})'
    raise line.refuse(f'pool_type={kind}')


@rule('AdaptiveAvgPooling2D')
def adaptive(line: Line) -> str:
    size = line.attrs.integers('output_size', (1,))
    return f'F.adaptive_avg_pool2d({line.x()}, {side(size)})'


@rule('BilinearResize2D')
def bilinear(line: Line) -> str:
    mode = line.attrs.text('mode', 'size')
    corners = line.attrs.truth('align_corners', default=True)
    high, wide = line.attrs.integer('height', 1), line.attrs.integer('width', 1)
    scales = [line.attrs.number(f'scale_{each}', 0.0) for each in ('height', 'width')]
    x = line.x()
    if mode == 'like':
        size = f'{line.x(1)}.shape[2:]'
    elif mode == 'size' and not any(scales):
        size = f'({high}, {wide})'
        if not corners and 1 in (high, wide):  # MXNet takes the first pixel, PyTorch the middle
            raise line.refuse('align_corners=False with one pixel')
    elif mode == 'size' and all(scales):  # in float32, as MXNet: 0.29 * 100 is 29 there
        high_, wide_ = (f'int(torch.tensor({each!r}) * {x}.shape[{axis}])'
                        for axis, each in enumerate(scales, 2))  # fmt: skip
        size = f'({high_}, {wide_})'
    else:
        raise line.refuse(f'mode={mode}')
    return f"F.interpolate({x}, {size}, mode='bilinear', align_corners={corners})"


@rule('UpSampling')
def upsampling(line: Line) -> str:
    scale = line.attrs.integer('scale', 1)
    kind = line.attrs.text('sample_type', 'nearest')
    mode = line.attrs.text('multi_input_mode', 'concat')
    line.attrs.integer('num_filter', 0)
    if kind == 'bilinear':
        channels, _, *sides = line.shape(1)
        kernel = 2 * scale - scale % 2
        check_kernel(line, (kernel, kernel), sides)
        layer = line.module(
            f'nn.ConvTranspose2d({channels}, {channels}, {kernel}, stride={scale}, '
            f'padding={-(-(scale - 1) // 2)}, groups={channels}, bias=False)',
            weight=1,
        )
        return f'{layer}({line.x()})'
    first = f'F.interpolate({line.x()}, scale_factor={scale})'
    if len(line.node.inputs) == 1:
        return first
    size = f'[{scale} * each for each in {line.x()}.shape[2:]]'
    parts = [first, *(f'F.interpolate({each}, {size})' for each in line.xs()[1:])]
    return ' + '.join(parts) if mode == 'sum' else f'torch.cat(({", ".join(parts)}), 1)'


@rule('Pad')
def pad(line: Line) -> str:
    mode = line.attrs.text('mode', 'constant')
    widths = line.attrs.integers('pad_width')
    value = line.attrs.number('constant_value', 0.0)
    if len(widths) % 2 or any(widths[:4]):
        raise line.refuse(f'pad_width={widths}')
    pairs = [widths[at : at + 2] for at in range(4, len(widths), 2)]
    flat = tuple(each for pair in reversed(pairs) for each in pair)  # PyTorch's last side is first
    kind = {'constant': '', 'edge': ", mode='replicate'", 'reflect': ", mode='reflect'"}
    if mode not in kind:
        raise line.refuse(f'mode={mode}')
    filled = f', value={value!r}' if mode == 'constant' and value else ''
    return f'F.pad({line.x()}, {flat}{kind[mode]}{filled})'


# --- Shapes ---------------------------------------------------------------------------------------


@rule('Flatten')
def flatten(line: Line) -> str:
    return f'{line.x()}.flatten(1)'


@rule('Reshape')
def reshape(line: Line) -> str:
    codes = line.attrs.integers('shape')
    backward = line.attrs.truth('reverse', default=False)
    target = line.attrs.integers('target_shape')
    highest = line.attrs.truth('keep_highest', default=False)
    if not codes and target:  # before ``shape``: 0 is to be found out
        codes = tuple(-1 if each == 0 else each for each in target)
        codes = (0, *codes[1:]) if highest else codes
    if not codes:
        raise line.refuse('no shape')
    if codes == (0, -1) and not backward:
        return f'{line.x()}.flatten(1)'
    return f'{line.x()}.reshape({", ".join(_sides(line, list(codes), backward=backward))})'


def _sides(line: Line, codes: list[int], *, backward: bool) -> list[str]:
    """Return the new sides as source.

    The codes are those of MXNet's Reshape: 0 keeps a side, -1 is found out, -2 keeps all that are
    left, -3 joins two, -4 splits one into the next two numbers.
    """
    x = line.x()
    if backward:
        if any(code in (-2, -4) for code in codes):
            raise line.refuse('reverse with the codes -2 or -4')
        codes = codes[::-1]
    sides, at = [], 0
    todo = iter(codes)
    for code in todo:
        here = f'{x}.shape[{-at - 1 if backward else at}]'
        if code > 0 or code == -1:
            sides.append(str(code))
        elif code == 0:
            sides.append(here)
        elif code == -2:
            sides.append(f'*{x}.shape[{at}:]')
        elif code == -3:
            sides.append(f'{here} * {x}.shape[{-at - 2 if backward else at + 1}]')
            at += 1
        elif code == -4:
            pair = [next(todo, 0), next(todo, 0)]
            if min(pair) < -1 or 0 in pair or pair == [-1, -1]:
                raise line.refuse(f'shape={tuple(codes)}')
            other = max(pair)
            sides += [f'{here} // {other}' if each == -1 else str(each) for each in pair]
        else:
            raise line.refuse(f'shape={tuple(codes)}')
        at += 1
    return sides[::-1] if backward else sides


@rule('reshape_like')
def reshape_like(line: Line) -> str:
    x, like = line.x(), line.x(1)
    some = [
        None if line.attrs.text(f'{which}_{end}', 'None') == 'None'
        else line.attrs.axis(f'{which}_{end}', 0)
        for which in ('lhs', 'rhs')
        for end in ('begin', 'end')
    ]  # fmt: skip
    if some == [None] * 4:
        return f'{x}.reshape_as({like})'
    first, last, like_first, like_last = ('' if each is None else str(each) for each in some)
    kept = [f'*{x}.shape[:{first}]'] if first else []
    more = [f'*{x}.shape[{last}:]'] if last else []
    return f'{x}.reshape({", ".join([*kept, f"*{like}.shape[{like_first}:{like_last}]", *more])})'


@rule('expand_dims')
def expand_dims(line: Line) -> str:
    return f'{line.x()}.unsqueeze({line.attrs.integer("axis", 0)})'


@rule('squeeze')
def squeeze(line: Line) -> str:
    axes = line.attrs.integers('axis')
    return f'{line.x()}.squeeze({side(axes) if axes else ""})'


@rule('transpose')
def transpose(line: Line) -> str:
    axes = line.attrs.integers('axes')
    if not axes:
        return f'{line.x()}.permute(*range({line.x()}.ndim - 1, -1, -1))'
    return f'{line.x()}.permute({", ".join(map(str, axes))})'


@rule('SwapAxis')
def swap_axis(line: Line) -> str:
    first, second = line.attrs.axis('dim1', 0), line.attrs.axis('dim2', 0)
    return f'{line.x()}.transpose({first}, {second})'


@rule('Concat')
def concat(line: Line) -> str:
    axis = line.attrs.axis(
        'dim', line.attrs.axis('axis', 1 if line.node.stored_op != '_npi_concatenate' else 0)
    )
    return f'torch.cat(({", ".join(line.xs())},), {axis})'


@rule('stack')
def stack(line: Line) -> str:
    return f'torch.stack(({", ".join(line.xs())},), {line.attrs.integer("axis", 0)})'


@rule('SliceChannel')
def slice_channel(line: Line) -> str:
    count, axis = line.attrs.integer('num_outputs', 1), line.attrs.axis('axis', 1)
    if line.attrs.truth('squeeze_axis', default=False):
        return f'{line.x()}.unbind({axis})'
    return f'{line.x()}.chunk({count}, {axis})'


@rule('slice')
def slice_(line: Line) -> str:
    begin = line.attrs.optional_integers('begin') or ()
    end = line.attrs.optional_integers('end') or ()
    step = line.attrs.optional_integers('step') or ()
    if len(begin) != len(end) or not begin:
        raise line.refuse(f'begin={begin}, end={end}')
    parts = []
    for at, (first, last) in enumerate(zip(begin, end, strict=True)):
        by = step[at] if at < len(step) else None
        if by is not None and by < 1:
            raise line.refuse(f'step={step}')
        part = f'{"" if first is None else first}:{"" if last is None else last}'
        parts.append(part if by in (None, 1) else f'{part}:{by}')
    return f'{line.x()}[{", ".join(parts)}]'


@rule('slice_axis')
def slice_axis(line: Line) -> str:
    axis = line.attrs.axis('axis', 0)
    begin = line.attrs.integer('begin', 0)
    text = line.attrs.text('end', 'None')
    end = '' if text == 'None' else str(line.attrs.integer('end', 0))
    if axis < 0:
        return f'{line.x()}[..., {begin}:{end}{", :" * (-axis - 1)}]'
    return f'{line.x()}[{":, " * axis}{begin}:{end}]'


@rule('slice_like')
def slice_like(line: Line) -> str:
    axes = line.attrs.integers('axes')
    rank = line.rank() or line.rank(1)
    if not axes and rank is None:
        raise line.refuse('no axes')
    axes = axes or tuple(range(rank or 0))
    if any(not 0 <= axis < MOST_AXES for axis in axes):
        if rank is None:
            raise line.refuse(f'axes={axes}')
        axes = tuple(axis % rank for axis in axes)
    like = line.x(1)
    parts = [f':{like}.shape[{at}]' if at in axes else ':' for at in range(max(axes) + 1)]
    return f'{line.x()}[{", ".join(parts)}]'


@rule('Crop')
def crop(line: Line) -> str:
    offset = line.attrs.integers('offset', (0, 0))
    size = line.attrs.integers('h_w', (0, 0))
    center = line.attrs.truth('center_crop', default=False)
    x = line.x()
    sides = (
        [f'{line.x(1)}.shape[{at}]' for at in (2, 3)]
        if len(line.node.inputs) > 1
        else list(map(str, size))
    )
    if center:
        starts = [
            f'({x}.shape[{at}] - {each}) // 2' for at, each in zip((2, 3), sides, strict=True)
        ]
    else:
        starts = list(map(str, offset))
    for at, start, each in zip((2, 3), starts, sides, strict=True):
        x += f'.narrow({at}, {start}, {each})'
    return x


@rule('tile')
def tile(line: Line) -> str:
    return f'{line.x()}.tile({side_list(line.attrs.integers("reps"))})'


def side_list(values: Sequence[int]) -> str:
    """Return a tuple as source."""
    return repr(tuple(values))


@rule('broadcast_like')
def broadcast_like(line: Line) -> str:
    if line.attrs.integers('lhs_axes') or line.attrs.integers('rhs_axes'):
        raise line.refuse('lhs_axes and rhs_axes')
    return f'{line.x()}.expand_as({line.x(1)})'


@rule('broadcast_to')
def broadcast_to(line: Line) -> str:
    sides = [-1 if each == 0 else each for each in line.attrs.integers('shape')]
    return f'{line.x()}.expand({side_list(sides)})'


@rule('broadcast_axis')
def broadcast_axis(line: Line) -> str:
    axes, sizes = line.attrs.integers('axis'), line.attrs.integers('size')
    rank = line.rank()
    if rank is None or len(axes) != len(sizes):
        raise line.refuse(f'axis={axes}')
    sides = [-1] * rank
    for axis, size in zip(axes, sizes, strict=True):
        sides[axis] = size
    return f'{line.x()}.expand({side_list(sides)})'


# --- Arithmetic -----------------------------------------------------------------------------------

BINARY = {
    'add': '{} + {}', 'sub': '{} - {}', 'mul': '{} * {}', 'div': '{} / {}',
    'maximum': 'torch.maximum({}, {})', 'minimum': 'torch.minimum({}, {})', 'power': '{} ** {}',
}  # fmt: skip


@rule(
    *(f'broadcast_{name}' for name in BINARY),
    *(f'elemwise_{name}' for name in ('add', 'sub', 'mul', 'div')),
)
def binary(line: Line) -> str:
    return BINARY[line.node.op.partition('_')[2]].format(line.x(), line.x(1))


SCALAR = {
    '_plus_scalar': '{x} + {s}', '_minus_scalar': '{x} - {s}', '_rminus_scalar': '{s} - {x}',
    '_mul_scalar': '{x} * {s}', '_div_scalar': '{x} / {s}', '_rdiv_scalar': '{s} / {x}',
    '_power_scalar': '{x} ** {s}', '_rpower_scalar': '{s} ** {x}',
    '_maximum_scalar': '{x}.clamp(min={s})', '_minimum_scalar': '{x}.clamp(max={s})',
}  # fmt: skip


@rule(*SCALAR)
def scalar(line: Line) -> str:
    value = line.attrs.number('scalar', 1.0)
    line.attrs.text('is_int', '')
    return SCALAR[line.node.op].format(x=line.x(), s=repr(value) if value >= 0 else f'({value!r})')


UNARY = {
    'relu': 'F.relu({})', 'sigmoid': 'torch.sigmoid({})', 'tanh': 'torch.tanh({})',
    'exp': '{}.exp()', 'log': '{}.log()', 'sqrt': '{}.sqrt()', 'rsqrt': '{}.rsqrt()',
    'square': '{}.square()',
    'abs': '{}.abs()', 'negative': '-{}', 'softsign': 'F.softsign({})', 'erf': '{}.erf()',
    'ones_like': 'torch.ones_like({})', 'zeros_like': 'torch.zeros_like({})', 'sign': '{}.sign()',
    'floor': '{}.floor()', 'ceil': '{}.ceil()', 'round': '{}.round()', 'sin': '{}.sin()',
    'cos': '{}.cos()', 'log1p': '{}.log1p()', 'expm1': '{}.expm1()',
    'reciprocal': '{}.reciprocal()',
}  # fmt: skip


@rule(*UNARY)
def unary(line: Line) -> str:
    return UNARY[line.node.op].format(line.x())


@rule('add_n')
def add_n(line: Line) -> str:
    return ' + '.join(line.xs())


@rule('clip')
def clip(line: Line) -> str:
    low, high = (float32(line.attrs.number(name, 0.0)) for name in ('a_min', 'a_max'))
    return f'{line.x()}.clamp({low!r}, {high!r})'


@rule('sum', 'mean', 'max', 'min', 'prod')
def reduce(line: Line) -> str:
    axes = line.attrs.integers('axis')
    keep = line.attrs.truth('keepdims', default=False)
    line.attrs.text('dtype', '')
    if line.attrs.truth('exclude', default=False):
        rank = line.rank()
        if rank is None:
            raise line.refuse('exclude')
        axes = tuple(at for at in range(rank) if at not in {axis % rank for axis in axes})
    name = {'max': 'amax', 'min': 'amin'}.get(line.node.op, line.node.op)
    if not axes:
        if keep:
            raise line.refuse('keepdims without axis')
        return f'{line.x()}.{line.node.op}()'
    if name == 'prod' and len(axes) > 1:
        raise line.refuse(f'axis={axes}')
    keeping = ', keepdim=True' if keep else ''
    return f'{line.x()}.{name}({side(axes) if len(axes) == 1 else axes}{keeping})'


@rule('L2Normalization')
def l2_normalization(line: Line) -> str:
    eps = float32(line.attrs.number('eps', 1e-10))
    mode = line.attrs.text('mode', 'instance')
    rank = line.rank()
    axes = {'channel': '1', 'instance': repr(tuple(range(1, rank))) if rank else None,
            'spatial': repr(tuple(range(2, rank))) if rank else None}.get(mode)  # fmt: skip
    if axes is None:
        raise line.refuse(f'mode={mode}')
    x = line.x()
    return f'{x} / ({x}.square().sum({axes}, keepdim=True) + {eps!r}).sqrt()'


@rule('LRN')
def lrn(line: Line) -> str:
    alpha = float32(line.attrs.number('alpha', 1e-4))
    beta = float32(line.attrs.number('beta', 0.75))
    k = float32(line.attrs.number('knorm', 2.0))
    size = line.attrs.integer('nsize', 5)
    if size % 2 == 0:
        raise line.refuse(f'nsize={size}')
    return f'F.local_response_norm({line.x()}, {size}, {alpha!r}, {beta!r}, {k!r})'


@rule('dot')
def dot(line: Line) -> str:
    sides = [
        f'{line.x(at)}.mT' if line.attrs.truth(name, default=False) else line.x(at)
        for at, name in enumerate(('transpose_a', 'transpose_b'))
    ]
    if {line.rank(), line.rank(1)} - {1, 2}:
        raise line.refuse('more than two dimensions')
    return ' @ '.join(sides)


@rule('batch_dot')
def batch_dot(line: Line) -> str:
    line.attrs.text('forward_stype', '')
    return ' @ '.join(
        f'{line.x(at)}.mT' if line.attrs.truth(name, default=False) else line.x(at)
        for at, name in enumerate(('transpose_a', 'transpose_b'))
    )


@rule('where')
def where(line: Line) -> str:
    return f'torch.where({line.x()} != 0, {line.x(1)}, {line.x(2)})'


COMPARISONS = {
    '_greater': '>', '_greater_equal': '>=', '_lesser': '<', '_lesser_equal': '<=', '_equal': '==',
    '_not_equal': '!=',
}  # fmt: skip


@rule(*(f'{name}_scalar' for name in COMPARISONS))
def compare_scalar(line: Line) -> str:
    value = line.attrs.number('scalar', 1.0)
    line.attrs.text('is_int', '')
    sign = COMPARISONS[line.node.op.removesuffix('_scalar')]
    return f'({line.x()} {sign} {value!r}).to({line.x()}.dtype)'


@rule(*(f'broadcast{name}' for name in COMPARISONS))
def compare(line: Line) -> str:
    sign = COMPARISONS[line.node.op.removeprefix('broadcast')]
    return f'({line.x()} {sign} {line.x(1)}).to({line.x()}.dtype)'


# --- Types ----------------------------------------------------------------------------------------


@rule('Cast', 'amp_cast')
def cast(line: Line) -> str:
    """Between floating types nothing is done: the net computes in one type throughout."""
    kind = line.attrs.text('dtype', '')
    if kind in ('float16', 'float32', 'float64', 'bfloat16'):
        return line.x()
    names = {'int32': 'int32', 'int64': 'int64', 'int8': 'int8', 'uint8': 'uint8', 'bool': 'bool'}
    if kind not in names:
        raise line.refuse(f'dtype={kind}')
    return f'{line.x()}.to(torch.{names[kind]})'


@rule('amp_multicast')
def amp_multicast(line: Line) -> str:
    for name in ('num_outputs', 'cast_narrow'):
        line.attrs.text(name, '')
    return f'({", ".join(line.xs())},)'
