"""One run of the main job, and the directory that keeps it.

It may import ``sources``, ``report`` and the layers below. Begin with ``job``; ``directory``
says what a run directory holds.
"""
