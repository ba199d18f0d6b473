"""What people look at: curves, grids of images, the page of a run.

It may import ``training`` and the layers below. Begin with ``figures``.
"""
