"""Chapters of the book: read, executed in every tab, checked, and made into pages.

``reader`` and ``inline`` read the book's Markdown; ``book`` holds the settings and all chapters of
a folder; ``notebooks`` makes a notebook for each tab; ``execute`` runs it; ``outputs`` keeps what
came out; ``freshness`` tells what is stale; ``check`` and ``claims`` tell what is wrong; ``saved``
cuts the ``#@save`` code out; ``myst`` and ``site`` make the pages; ``command`` is what the command
line calls.
"""
