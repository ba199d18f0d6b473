"""The proof that both backends compute the same.

Each framework runs in a process of its own and writes its inputs and results to files (``trace``).
The files are compared here, where neither framework is imported. Each rung of the ladder is one
module, which says what to trace and what to compare. ``tolerances`` is the table of all limits and
their reasons.
"""
