"""Nets as data: architectures, parameters' names and states, checkpoints, files of others.

Nothing here computes with a net. It may import ``storage``. Begin with ``architectures``.
"""
