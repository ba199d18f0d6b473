"""Files: atomic writes, the cache, locks, downloads, archives, JSON with declared types.

It may import ``system``. Begin with ``atomic``, through which all writes go.
"""
