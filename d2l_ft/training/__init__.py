"""The loop over steps and epochs, tests, and features of a frozen body.

It may import ``backend`` and the layers below; it draws nothing and knows no run directory.
Begin with ``trainer``.
"""
