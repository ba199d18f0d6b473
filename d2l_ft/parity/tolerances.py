"""All tolerances of the proof, in one table: limit, unit, reason, worst value seen, likely cause.

A limit is at most ten times the worst value that has been seen; that is ``seen``. A row
with ``least`` is a known difference, which must be found. A row without a limit is a figure that
depends on the images: it is only stated.
"""

import math
from dataclasses import dataclass, replace

from d2l_ft.errors import ParityError
from d2l_ft.models.architectures import ADDED
from d2l_ft.parity.plan import Check

NORM_RULE = 'BatchNorm: its epsilon, its momentum or which variance it keeps'
RECIPE_RULE = 'the recipe: rate, multiplier, decay, or what the loss is divided by'


@dataclass(frozen=True)
class Tolerance:
    """One row of the table.

    Attributes:
        rung: Module of ``rungs``.
        what: Beginning of the check's name within its case.
        limit: The most that the value may be.
        unit: What the value counts.
        reason: Why not less.
        cause: The likely cause if it is more.
        seen: The worst value measured so far; the limit is at most ten times that, unless it
            is exact or statistical.
        least: The least that the value may be.
        archs: Architectures to which the row applies; (): all that have no row of their own.
    """

    rung: str
    what: str
    limit: float
    unit: str
    reason: str
    cause: str
    seen: float = 0.0
    least: float = 0.0
    archs: tuple[str, ...] = ()


EXACT = 'nothing is computed that could round'
SAME_BITS = 'both read the same bytes and compute in the same integers'
ROUNDING = 'rounding in float64, grown by the depth of the net'
ROUNDING_32 = 'rounding in float32'
GROWN = 'rounding in float64, grown over 50 steps by a net whose random weights amplify it'
SENSITIVE = ('resnet34', 'mobilenet_v2', 'densenet121')
UNUSED_STATISTICS = 'training normalises by the batch, so the running statistics do not enter'
REL = 'of the largest value'
LAST_BIT = (
    'without AVX2 torchvision rounds once, of float32, and not after each axis: the two are '
    'less than 1.5 apart on any picture; with AVX2 0 is seen'
)
NO_ANTIALIAS = (
    'torchvision rounds after each axis, OpenCV at the end with weights of 11 bits: less '
    'than 2 apart on any picture'
)
PIL_RULE = (
    'the definition in the same integers; either order of the axes is accepted, as Pillow 13 '
    'begins with the height of some pictures'
)

TABLE = (
    Tolerance('samples', 'files', 0, 'entries', EXACT,
              'the scan of the folder, the order of files, or the names of the classes'),
    Tolerance('samples', 'labels', 0, 'examples', EXACT,
              'the order of the classes, or batches that are missing'),
    Tolerance('samples', 'order', 0, 'examples', EXACT,
              'the shuffle, the seed, or the last short batch'),
    Tolerance('samples', 'shards', 0, 'examples', EXACT,
              'how a batch is split over devices'),
    Tolerance('pixels', 'crops', 0, 'bytes', SAME_BITS,
              'the decoder, the channel order, the draw of the box, or the resize'),
    Tolerance('pixels', 'floats', 1, 'ulp', 'both look the same table up; 0 is seen',
              'mean and deviation, or the order of the arithmetic'),
    Tolerance('pixels', 'workers', 0, 'bytes', 'a draw depends on seed, epoch and index alone',
              'a draw that depends on the worker'),
    Tolerance('pixels', 'own/train-gluon', 0, 'of 255', "Gluon resizes with OpenCV's integers",
              'the decoder, the box, or the resize'),
    Tolerance('pixels', 'own/test-gluon', 0, 'of 255', "Gluon resizes with OpenCV's integers",
              'the size before the central crop, or its offset'),
    Tolerance('pixels', 'own/train-tensor-antialias', 1, 'of 255', LAST_BIT, 'another resize', 1),
    Tolerance('pixels', 'own/test-tensor-antialias', 1, 'of 255', LAST_BIT, 'another resize', 1),
    Tolerance('pixels', 'own/train-tensor', 1, 'of 255', NO_ANTIALIAS, 'another resize', 1),
    Tolerance('pixels', 'own/test-tensor', 1, 'of 255', NO_ANTIALIAS, 'another resize', 1),
    Tolerance('pixels', 'own/train-pil', 0, 'of 255', PIL_RULE, 'another resize'),
    Tolerance('pixels', 'own/test-pil', 0, 'of 255', PIL_RULE, 'another resize'),
    Tolerance('pixels', 'own/opencv-', math.inf, 'of 255',
              'antialias averages over all that a pixel covers; the finer the structure of the '
              'picture, the more that differs', 'none', 255),
    Tolerance('pixels', 'own/decoded-', math.inf, 'of 255',
              'the own reader of the framework, which training does not use: EXIF, CMYK, 16 bits '
              'and JPEGs of rare subsampling are read otherwise', 'none', 255),
    Tolerance('pixels', 'own/edges-mxnet', 0, 'pixels', 'both round a half down',
              'the central crop'),
    Tolerance('pixels', 'own/edges-pytorch', 1, 'pixels',
              'torchvision rounds half a pixel to even: margins of 3, 7, 11, ...',
              'the central crop', 1, 1),
    Tolerance('pixels', 'own/floats', 0, 'ulp',
              'divide, subtract, divide in float32 rounds alike everywhere',
              'mean and deviation, or the order of the arithmetic'),
    Tolerance('pixels', 'draws/boxes', 1.95, 'Kolmogorov-Smirnov',
              'statistical: exceeded by one in 1000 equal pairs', 'the range of area or ratio'),
    Tolerance('pixels', 'draws/flips', 3.3, 'deviations',
              'statistical: exceeded by one in 1000 fair coins', 'the probability of a flip'),
    Tolerance('structure', 'head', 0, 'facts', EXACT, 'the new output layer'),
    Tolerance('structure', 'shapes', 0, 'arrays', EXACT, 'the architecture, or a name'),
    Tolerance('structure', 'maps', 0, 'layers', EXACT, 'stride, padding or pooling'),
    Tolerance('structure', 'groups', 0, 'parameters', EXACT,
              'the multiplier of the head, or what belongs to it'),
    Tolerance('structure', 'frozen', 0, 'parameters', EXACT, 'what freezing leaves to train'),
    Tolerance('forward', 'layers-eval-float64', 1e-13, REL, ROUNDING,
              'the named layer: a weight or epsilon', 1.4e-14),
    Tolerance('forward', 'layers-train-float64', 1e-12, REL, ROUNDING,
              'the named layer: a weight or epsilon', 1.8e-13),
    Tolerance('forward', 'logits-eval-float64', 1e-13, REL, ROUNDING,
              'eval mode, or the output layer', 1e-14),
    Tolerance('forward', 'losses-float64', 2e-14, REL, ROUNDING, 'the loss', 2e-15),
    Tolerance('forward', 'layers-eval-float32', 1e-5, REL, ROUNDING_32, 'the named layer', 2e-6),
    Tolerance('forward', 'layers-train-float32', 4, 'times the other',
              'rounding in float32, divided by deviations of the batch that may be next to nothing',
              'the float32 kernels', 1.8),
    Tolerance('forward', 'logits-eval-float32', 1e-5, REL, ROUNDING_32,
              'eval mode, or the output layer', 1.2e-6),
    Tolerance('forward', 'losses-float32', 2e-5, REL, ROUNDING_32, 'the loss', 4e-6),
    Tolerance('backward', 'loss-float64', 5e-13, REL,
              'rounding in float64 of the layers in training mode, from which it is computed',
              'the loss', 6e-14),
    Tolerance('backward', 'loss-float32', 2e-4, REL, ROUNDING_32, 'the loss', 5e-5),
    Tolerance('backward', 'gradients-float64', 1e-11, REL,
              'rounding in float64, divided by small deviations of the batch',
              'the derivative of the named layer, or what the loss is divided by', 3.4e-12),
    Tolerance('backward', 'gradients-float32', 3, 'times the other',
              'a rounding turns some ReLU, in either framework', 'the float32 kernels', 2.9),
    Tolerance('backward', 'distance-float32', 0.05, 'of the length of the gradient',
              'a rounding turns some ReLU', 'the float32 kernels', 0.028),
    Tolerance('update', 'plain', 2e-11, REL, ROUNDING, RECIPE_RULE, 7e-12),
    Tolerance('update', 'momentum', 2e-11, REL, ROUNDING,
              'the meaning of momentum after a change of the rate', 2e-12),
    Tolerance('update', 'momentum', 3e-9, REL,
              'rounding in float64, grown over three steps of a deep net with random weights',
              'the meaning of momentum after a change of the rate', 7e-10,
              archs=('resnet50', 'mobilenet_v2')),
    Tolerance('update', 'short', 3e-11, REL, ROUNDING, RECIPE_RULE, 7e-12),
    Tolerance('update', 'frozen', 3e-13, REL, ROUNDING, 'what freezing leaves to train', 4e-14),
    Tolerance('update', 'rates-', 2e-7, 'relative to the recipe',
              'MXNet rounds the rate to float32', RECIPE_RULE, 2.3e-8),
    Tolerance('update', 'decay-', 2e-7, 'relative to the recipe',
              'MXNet rounds the decay to float32', RECIPE_RULE, 2.3e-8),
    Tolerance('update', 'statistics-corrected', 1e-6, REL,
              'MXNet rounds the momentum of BatchNorm to float32', NORM_RULE, 2.4e-7),
    Tolerance('update', 'statistics-unreached', 0, 'arrays',
              'backward reaches every BatchNorm', NORM_RULE),
    Tolerance('update', 'statistics-unreached', 2, 'arrays',
              'MXNet moves statistics in backward, which does not reach the BatchNorm of the input',
              NORM_RULE, 2, 2, ('resnet18_v2',)),
    Tolerance('update', 'statistics-stock', 0.05, REL,
              'the running variance is biased in MXNet, unbiased in PyTorch: n / (n - 1)',
              NORM_RULE, 0.02, 1e-5),
    Tolerance('trajectory', 'losses-strict', 8e-13, REL, ROUNDING, RECIPE_RULE, 8.5e-14),
    Tolerance('trajectory', 'losses-strict', 5e-11, REL, GROWN, RECIPE_RULE, 5.2e-12,
              archs=SENSITIVE),
    Tolerance('trajectory', 'weights-strict', 9e-13, REL, ROUNDING, RECIPE_RULE, 9.1e-14),
    Tolerance('trajectory', 'weights-strict', 3e-11, REL, GROWN, RECIPE_RULE, 3.4e-12,
              archs=SENSITIVE),
    Tolerance('trajectory', 'velocities-strict', 5e-12, REL, ROUNDING, RECIPE_RULE, 5.5e-13),
    Tolerance('trajectory', 'velocities-strict', 2.8e-10, REL, GROWN, RECIPE_RULE, 2.9e-11,
              archs=SENSITIVE),
    Tolerance('trajectory', 'logits-strict', 6e-13, REL, ROUNDING, RECIPE_RULE, 6.9e-14),
    Tolerance('trajectory', 'logits-strict', 1.5e-10, REL, GROWN, RECIPE_RULE, 1.6e-11,
              archs=SENSITIVE),
    Tolerance('trajectory', 'losses-short', 1e-12, REL, ROUNDING, RECIPE_RULE, 1.2e-13),
    Tolerance('trajectory', 'losses-short', 5e-11, REL, GROWN, RECIPE_RULE, 5.3e-12,
              archs=SENSITIVE),
    Tolerance('trajectory', 'weights-short', 2.8e-13, REL, ROUNDING, RECIPE_RULE, 2.9e-14),
    Tolerance('trajectory', 'weights-short', 1.7e-11, REL, GROWN, RECIPE_RULE, 1.8e-12,
              archs=SENSITIVE),
    Tolerance('trajectory', 'logits-short', 4e-13, REL, ROUNDING, RECIPE_RULE, 4.2e-14),
    Tolerance('trajectory', 'logits-short', 5e-11, REL, GROWN, RECIPE_RULE, 5.3e-12,
              archs=SENSITIVE),
    Tolerance('trajectory', 'losses-stock', 8e-13, REL, UNUSED_STATISTICS, RECIPE_RULE, 8.5e-14),
    Tolerance('trajectory', 'losses-stock', 4e-11, REL, GROWN, RECIPE_RULE, 4.4e-12,
              archs=SENSITIVE),
    Tolerance('trajectory', 'weights-stock', 0.2, REL,
              'the running variance: n / (n - 1)', NORM_RULE, 0.066, 1e-4),
    Tolerance('trajectory', 'weights-stock', 2, REL,
              'the BatchNorm of the input keeps its statistics in MXNet', NORM_RULE, 0.97, 0.1,
              ('resnet18_v2',)),
    Tolerance('trajectory', 'logits-stock', 0.5, REL,
              'the running variance: n / (n - 1)', NORM_RULE, 0.16, 1e-6),
    Tolerance('trajectory', 'logits-stock', 2, REL,
              'the BatchNorm of the input keeps its statistics in MXNet', NORM_RULE, 0.94, 1e-3,
              ('resnet18_v2',)),
    Tolerance('trajectory', 'classes', 0, 'images', 'the logits agree', RECIPE_RULE),
    Tolerance('trajectory', 'float32', 5, 'times the distance of PyTorch',
              'roundings grow from step to step, and turn some ReLU', 'the float32 kernels', 2.8),
    Tolerance('trajectory', 'distance-float32', 0.3, 'of the length of the weights',
              'roundings grow over 50 steps, and turn some ReLU', 'the float32 kernels', 0.075),
    Tolerance('runs', 'test-images', 4, 'images', 'roundings of float32 grow from step to step',
              'the source, the loader, or the mode of the test', 1),
    Tolerance('runs', 'train-loss', 0.01, 'relative',
              'roundings of float32 grow from step to step', RECIPE_RULE, 0.002),
    Tolerance('checkpoints', 'model', 0, 'arrays', EXACT, 'the names or the layout of the file'),
    Tolerance('checkpoints', 'trainer', 0, 'arrays', EXACT,
              'the meaning of the velocity, or its sign'),
    Tolerance('checkpoints', 'resumed', 1e-12, REL, ROUNDING,
              'something that the checkpoint does not hold', 1e-13),
    Tolerance('devices', 'frameworks', 1e-11, REL, ROUNDING,
              'how a batch is split, or how replicas are brought together', 1e-12),
    Tolerance('devices', 'one', 2e-15, REL, ROUNDING,
              "a replica's gradient that is lost or counted twice", 2e-16),
    Tolerance('book', 'weights', 1e-15, REL, 'the same steps in the same framework; 0 is seen',
              'a step that is not the printed one', 1e-16),
)  # fmt: skip
"""Of several rows that fit a check, the one with the longest name applies."""


ANY_NET = 1e-8
"""Limit of a check in float64 for a converted net, which may be of any depth and have any weights.
Rounding was seen up to 1e-10; the least known cause of a true difference, a number that one of them
keeps in float32, makes 1e-7. ``d2l-ft verify`` measures how much a net makes of a rounding."""


ANY_REASON = 'rounding in float64, in a net of any depth with any weights'


def is_converted(case: str) -> bool:
    """Tell whether a case, such as 'flowers-1a2b3c4d-2', is one of a converted net."""
    return any(case.startswith(name) for name in ADDED)


def loosened(row: Tolerance) -> Tolerance:
    """Return a row as it applies to a converted net: float32 is stated, and no verdict."""
    if 'float32' in row.what:
        return replace(row, limit=math.inf)
    rounding = row.unit == REL and row.limit < ANY_NET
    return replace(row, limit=ANY_NET, reason=ANY_REASON) if rounding else row


def row(rung: str, what: str, arch: str = '') -> Tolerance:
    """Return the row for a check: of its architecture if there is one, otherwise the common one.

    Raises:
        ParityError: The table has none.
    """
    candidates = [
        each
        for each in TABLE
        if each.rung == rung
        and what.startswith(each.what)
        and (not each.archs or arch in each.archs)
    ]
    if not candidates:
        raise ParityError(f'the table of tolerances has no row for {rung}, {what}')
    found = max(candidates, key=lambda each: (len(each.what), bool(each.archs)))
    return loosened(found) if is_converted(arch) else found


def limit(rung: str, what: str, arch: str = '') -> float:
    """Return the limit of a check."""
    return row(rung, what, arch).limit


def check(rung: str, case: str, what: str, value: float, where: str = '') -> Check:
    """Return a check with its verdict.

    Args:
        rung: Module of ``rungs``.
        case: Architecture and head, or what else is compared.
        what: Name within the case.
        value: What was measured; not-a-number fails.
        where: The first place where the two differ; of a stated figure, the picture that gives it.
    """
    key = f'{case}/{what}' if case in ('own', 'draws') else what
    found = row(rung, key, case if is_converted(case) else case.partition('-')[0])
    value = float(value)
    ok = math.isfinite(value) and found.least <= value <= found.limit
    stated = math.isinf(found.limit)
    return Check(
        f'{rung}/{case}/{what}',
        value,
        found.limit,
        found.unit,
        ok,
        where if stated or not ok else '',
        '' if ok else found.cause,
        found.least,
        found.reason,
        stated,
    )
