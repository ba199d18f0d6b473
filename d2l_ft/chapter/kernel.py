"""A notebook kernel that sees only its own framework.

python -m d2l_ft.chapter.kernel TAB -f CONNECTION_FILE
"""

import importlib.util
import json
import os
import platform
import sys
from collections.abc import Collection
from typing import Any

from d2l_ft.backend.registry import BACKENDS

HIDDEN = {name: (*each.packages, each.module) for name, each in BACKENDS.items()}
"""Tab -> the modules that the other tabs must not import."""


class HidingFinder:
    """A finder of modules that does not find some packages.

    None in ``sys.modules`` would hide them too, but SciPy expects modules there.

    Args:
        finder: One of ``sys.meta_path``.
        packages: The packages that are hidden.
    """

    def __init__(self, finder: Any, packages: Collection[str]) -> None:
        self._finder, self._packages = finder, packages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of a module; None if there is none, or it is hidden."""
        if name.partition('.')[0] in self._packages:
            return None
        find = getattr(self._finder, 'find_spec', None)
        return find(name, path, target) if find else None


def hide_others(tab: str) -> None:
    """Make the frameworks of the other tabs look as if they were not installed."""
    hidden = {name for other, names in HIDDEN.items() if other != tab for name in names}
    sys.meta_path[:] = [HidingFinder(finder, hidden) for finder in sys.meta_path]
    for name in hidden:
        sys.modules.pop(name, None)  # d2l_ft imports what prepares MXNet


def facts() -> str:
    """Return the device, system and versions of a run as JSON."""
    from d2l_ft.backend.registry import get_backend
    from d2l_ft.backend.versions import versions

    devices = [str(each) for each in get_backend().devices('auto')]
    shown_versions = {name: version for name, version in versions().items() if is_shown(name)}
    result = {
        'device': ', '.join(devices),
        'python': platform.python_version(),
        'system': platform.system(),
        'versions': shown_versions,
    }
    return json.dumps(result)


def is_shown(name: str) -> bool:
    """Tell whether the version of a package is shown: not if it belongs to another tab."""
    hidden = {each for modules in HIDDEN.values() for each in modules}
    return name not in hidden or importlib.util.find_spec(name) is not None


def main() -> None:
    """Start the kernel."""
    tab = sys.argv.pop(1)
    if tab in BACKENDS:
        os.environ['D2L_FT_BACKEND'] = tab
    hide_others(tab)
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == '__main__':
    main()
