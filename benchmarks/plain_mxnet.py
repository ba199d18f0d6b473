"""Imported before MXNet: it starts on today's Python, with the threads that it takes by itself."""

import os

THREADS = 'MXNET_OMP_MAX_THREADS'
was_set = THREADS in os.environ

import d2l_ft_mxnet.today  # noqa: E402, F401  # d2l_ft, which it imports, sets the threads

if not was_set:
    os.environ.pop(THREADS, None)
