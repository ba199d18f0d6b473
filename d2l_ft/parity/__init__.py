"""The proof that the two backends are one experiment.

Each framework runs in a process of its own and writes what it saw and computed (``trace``); the
files are compared here, where neither framework is imported. A rung of the ladder is one module:
what to trace, and what of it to compare. ``tolerances`` is the table of all limits with reasons.
"""
