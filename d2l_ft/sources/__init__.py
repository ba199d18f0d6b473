"""The source models from which a net starts: the sample's, ImageNet's, or a file.

It may import ``training`` and what lies below it. Begin with ``load``.
"""
