"""Learning rate schedules: how the rate changes during a run."""

import math

from d2l_ft.errors import OptionError


def scheduled_rate(schedule: str, rate: float, done: float) -> float:
    """Return the learning rate at a point of a run.

    Args:
        schedule: 'constant', or 'cosine': half a cosine from the rate to 0 (Loshchilov and Hutter
            2017, equation 5 without restarts).
        rate: The rate at the beginning.
        done: Share of the steps that are done, in [0, 1].

    Raises:
        OptionError: There is no such schedule.
    """
    if schedule == 'constant':
        return rate
    if schedule == 'cosine':
        return rate * (1 + math.cos(math.pi * done)) / 2
    raise OptionError(f'unknown schedule {schedule!r}: choose one of {", ".join(SCHEDULES)}')


SCHEDULES = ('constant', 'cosine')
