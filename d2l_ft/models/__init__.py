"""Nets as data: architectures, their parameters' names and states, checkpoints, Gluon's files.

Nothing here computes with a net. It may import ``storage``. Begin with ``architectures``.
"""
