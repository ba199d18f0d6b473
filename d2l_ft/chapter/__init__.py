"""Chapters of the book: read, executed in every tab, checked, and made into pages.

``reader`` and ``inline`` read the book's Markdown; ``book`` holds the settings and all chapters of
a folder; ``notebooks`` makes a notebook for each tab; ``execute`` runs it; ``outputs`` stores its
outputs; ``freshness`` finds stale outputs; ``check`` and ``claims`` find problems; ``saved``
extracts the ``#@save`` code; ``myst`` and ``site`` make the pages; ``command`` is called by the
command line.
"""
