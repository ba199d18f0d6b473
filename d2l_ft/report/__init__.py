"""What people look at: curves, grids of images, the page of a run.

It may import ``training`` and what lies below it. Begin with ``figures``.
"""
