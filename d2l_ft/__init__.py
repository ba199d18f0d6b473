"""Fine-tuning from Dive into Deep Learning, on MXNet Gluon and on PyTorch, one experiment.

    import d2l_ft as d2l

Importing this package loads no framework; a name is imported when it is first used.
"""

import os

from d2l_ft.devices import usable_cores

__version__ = '0.1.0'

# MXNet takes half of the cores and halves PyTorch's threads in the same process, unless it is
# told otherwise before it is imported.
if 'OMP_NUM_THREADS' not in os.environ:
    os.environ.setdefault('MXNET_OMP_MAX_THREADS', str(usable_cores()))
