"""What the cache tells of itself."""

import os

from d2l_ft.storage import cache


def test_sizes_of_the_cache_while_something_ends(monkeypatch):
    assert cache.cache_sizes() == {}
    (cache.cache_dir() / 'data/deep').mkdir(parents=True)
    (cache.cache_dir() / 'data/deep/a').write_bytes(bytes(7))
    (cache.cache_dir() / 'data/b').write_bytes(bytes(5))
    (cache.cache_dir() / 'models').mkdir()
    (cache.cache_dir() / 'file').write_bytes(bytes(3))
    walk = os.walk
    monkeypatch.setattr(
        os, 'walk', lambda top: [(place, [], [*names, 'gone']) for place, _, names in walk(top)]
    )
    assert cache.cache_sizes() == {'data': 12, 'models': 0}
