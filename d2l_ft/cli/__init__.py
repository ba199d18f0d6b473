"""The d2l-ft command: one module for each command.

It may import everything; nothing imports it. A command imports what it needs when it runs, so that
``--help`` is quick. Begin with ``main``.
"""
