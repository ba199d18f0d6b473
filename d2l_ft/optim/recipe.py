"""Hyper-parameters as data, in one convention: the loss is the mean over the batch.

Weight decay is added after the mean, as Gluon does it: the step of a weight w with gradient g
(of the mean loss) is ``-lr * mult * (g + weight_decay * w)``.
"""

from dataclasses import dataclass, replace

from d2l_ft.errors import OptionError

LARGEST = 3.4e38
"""The largest rate or decay: MXNet takes both as float32."""


@dataclass(frozen=True)
class Recipe:
    """The hyper-parameters of SGD.

    Attributes:
        learning_rate: Rate of the body, per step.
        head_lr_mult: The head's rate is this many times the body's; 1 makes one group.
        weight_decay: Factor of the L2 penalty's gradient, on every trainable parameter.
        momentum: Factor of the velocity, in [0, 1). One meaning in both frameworks: the
            velocity holds rate x gradient, as in Gluon, also after a change of the rate.
        reduction: 'mean' or 'sum' over the batch; 'sum' only reproduces a printed recipe.

    Example:
        >>> recipe = d2l.Recipe(learning_rate=0.01)
        >>> recipe.head_rate
        0.1
    """

    learning_rate: float
    head_lr_mult: float = 10.0
    weight_decay: float = 0.001
    momentum: float = 0.0
    reduction: str = 'mean'

    def __post_init__(self) -> None:
        # the rate of the head can overflow although both factors are in range
        most = f'at most {LARGEST:g}'
        checks = {
            f'`learning_rate` must be above 0 and {most}': 0 < self.learning_rate <= LARGEST,
            f'`head_lr_mult` must be above 0 and {most}': 0 < self.head_lr_mult <= LARGEST,
            f'the rate of the head must be {most}': self.head_rate <= LARGEST,
            f'`weight_decay` must be 0 or above and {most}': 0 <= self.weight_decay <= LARGEST,
            '`momentum` must be in [0, 1)': 0 <= self.momentum < 1,
            "`reduction` must be 'mean' or 'sum'": self.reduction in ('mean', 'sum'),
        }
        for text, good in checks.items():
            if not good:  # not-a-number is refused too, as it fails every comparison
                raise OptionError(f'{text}: {self}')

    @property
    def head_rate(self) -> float:
        """Rate of the head."""
        return self.learning_rate * self.head_lr_mult

    def at_rate(self, learning_rate: float) -> 'Recipe':
        """Return the same recipe with another rate."""
        return replace(self, learning_rate=learning_rate)

    def in_mean_terms(self, batch_size: int) -> 'Recipe':
        """Return the recipe of the mean loss that takes the same steps at this batch size.

        A step of the summed loss is -lr * (B * g + wd * w) = -(lr * B) * (g + wd / B * w).
        """
        if self.reduction == 'mean':
            return self
        return replace(
            self,
            learning_rate=self.learning_rate * batch_size,
            weight_decay=self.weight_decay / batch_size,
            reduction='mean',
        )


REDUCTIONS = ('mean', 'sum', 'book')
"""How a step reduces the loss over the batch; 'book' is as the tab of the book does."""


def check_reduction(reduction: str) -> None:
    """Check the name of a reduction.

    Raises:
        OptionError: It is none of ``REDUCTIONS``.
    """
    if reduction not in REDUCTIONS:
        raise OptionError(f"`reduction` must be 'mean', 'sum' or 'book', not {reduction!r}")


FINE_TUNED = Recipe(learning_rate=0.01)
"""The default recipe of the fine-tuned net, in both frameworks: that of the chapter's MXNet tab."""

SCRATCH = Recipe(learning_rate=0.1, head_lr_mult=1.0)
"""The default recipe of the from-scratch baseline: that of the chapter's MXNet tab."""

SOURCE = Recipe(learning_rate=0.006, head_lr_mult=1.0, weight_decay=5e-4, momentum=0.9)
"""The recipe of the source model of the built-in sample."""

SOURCE_BATCH_SIZE, SOURCE_EPOCHS = 32, 10
"""Likewise; chosen so that pre-training takes at most three minutes on two cores."""

SCRATCH_LR_FACTOR = SCRATCH.learning_rate / FINE_TUNED.learning_rate
"""If a user changes the fine-tuned net's rate, the baseline's rate is this many times as large."""

AS_PRINTED = {
    'mxnet': {'fine-tuned': FINE_TUNED, 'scratch': SCRATCH},
    'pytorch': {
        'fine-tuned': Recipe(learning_rate=5e-5, reduction='sum'),
        'scratch': Recipe(learning_rate=5e-4, head_lr_mult=1.0, reduction='sum'),
    },
}
"""The recipes exactly as each tab of the book prints them; the PyTorch tab sums the loss over the
batch."""


def as_printed(backend: str, net: str = 'fine-tuned') -> Recipe:
    """Return the recipe that a tab of the book prints for 'fine-tuned' or 'scratch'.

    Raises:
        OptionError: The book has no such tab or net.

    Example:
        >>> d2l.as_printed('pytorch').learning_rate
        5e-05
    """
    try:
        return AS_PRINTED[backend][net]
    except KeyError:
        raise OptionError(
            f'the book prints no recipe for {backend!r}, {net!r}: '
            f'tabs are {", ".join(AS_PRINTED)}; nets are fine-tuned, scratch'
        ) from None
