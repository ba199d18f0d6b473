"""The weights from which a net starts: the sample's own, ImageNet's, or a file.

It may import ``training`` and what lies below it. Begin with ``load``.
"""
