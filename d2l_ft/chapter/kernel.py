"""A notebook kernel that sees only its own framework.

python -m d2l_ft.chapter.kernel TAB -f CONNECTION_FILE
"""

import json
import os
import platform
import sys

from d2l_ft.registry import BACKENDS

HIDDEN = {
    'mxnet': ('mxnet', 'gluoncv', 'd2l_ft_mxnet'),
    'pytorch': ('torch', 'torchvision', 'd2l_ft_pytorch'),
}
"""Tab -> the modules that the other tabs must not import."""


def hide_others(tab: str) -> None:
    """Make the frameworks of the other tabs look as if they were not installed."""
    for other, modules in HIDDEN.items():
        if other != tab:
            for name in modules:
                sys.modules[name] = None  # type: ignore[assignment]


def facts() -> str:
    """Return, as JSON, where a run is made: device, system and versions."""
    from d2l_ft.experiment import versions
    from d2l_ft.registry import get_backend

    devices = [str(each) for each in get_backend().devices('auto')]
    found = {name: version for name, version in versions().items() if is_shown(name)}
    made = {
        'device': ', '.join(devices),
        'python': platform.python_version(),
        'system': platform.system(),
        'versions': found,
    }
    return json.dumps(made)


def is_shown(name: str) -> bool:
    """Tell whether a package is named on the page: not one of another tab."""
    hidden = {each for modules in HIDDEN.values() for each in modules}
    return name not in hidden or sys.modules.get(name, False) is not None


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
