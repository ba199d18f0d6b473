"""From files to bytes for a net: folders, checks, transforms, named data sets, the sample.

It may import ``models``, ``optim`` and what lies below them, and knows no backend. Begin with
``datasets``; ``transforms`` has the arithmetic of the pipeline.
"""
