"""The loop over steps and epochs, tests, and features of a frozen body.

It may import ``backend`` and what lies below it; it draws nothing and knows no run directory.
Begin with ``trainer``.
"""
