"""Run a script that uses MXNet on today's Python and NumPy.

python -m d2l_ft_mxnet.today script.py [args]     run a script
python -m d2l_ft_mxnet.today -m module [args]     run a module
python -m d2l_ft_mxnet.today                      show what MXNet lacks here
"""

import builtins
import importlib.metadata
import json
import multiprocessing.spawn
import os
import platform
import runpy
import sys
import types
from pathlib import Path
from typing import Any

from d2l_ft_mxnet.today import what_is_missing

PACKAGE, RUN = 'd2l_ft_mxnet.today', 'D2L_FT_TODAY_RUN'
"""This package, and the variable that tells worker processes which script is run."""


def describe() -> str:
    """Return what is installed, and the names that MXNet would lack without this."""
    lines = [__doc__.strip(), '', f'here: Python {platform.python_version()}']
    for name in ('numpy', 'mxnet', 'gluoncv'):
        try:
            lines.append(f'      {name} {importlib.metadata.version(name)}')
        except importlib.metadata.PackageNotFoundError:
            lines.append(f'      {name} is not installed')
    missing = what_is_missing()
    said = ', '.join(missing) if missing else 'nothing: MXNet starts here without it'
    return '\n'.join([*lines, f'given to MXNet: {said}'])


def run(words: list[str], name: str) -> dict[str, Any]:
    """Run a script or ``-m module`` with a given ``__name__``; return its global names."""
    if words[0] == '-m':
        return runpy.run_module(words[1], run_name=name, alter_sys=name == '__main__')
    # not runpy.run_path, which changes sys.argv[0]
    module = types.ModuleType(name)
    vars(module).update(__file__=words[0], __builtins__=builtins)
    if name == '__main__':
        sys.modules[name] = module
    exec(compile(Path(words[0]).read_bytes(), words[0], 'exec'), vars(module))
    return vars(module)


def follow_to_workers(words: list[str]) -> None:
    """Make processes that multiprocessing spawns import this package before the script.

    A spawned process imports the script again, which would import MXNet first; a forked one has
    everything already.
    """
    os.environ[RUN] = json.dumps(words)
    theirs = multiprocessing.spawn.get_preparation_data

    def ours(name: str) -> dict[str, Any]:
        data = theirs(name)
        if 'init_main_from_path' in data or 'init_main_from_name' in data:
            data.pop('init_main_from_path', None)
            data['init_main_from_name'] = PACKAGE
        return data

    multiprocessing.spawn.get_preparation_data = ours


def main() -> None:
    """Run the script or module of the command line, as Python itself would."""
    words = sys.argv[1:]
    if not words or words[0] in ('-h', '--help'):
        print(describe())
    elif words[0] == '-m' and len(words) > 1:
        sys.argv = words[1:]
        sys.path[0] = str(Path.cwd())
        follow_to_workers(words[:2])
        run(words, '__main__')
    elif words[0].startswith('-') or not Path(words[0]).is_file():
        print(f'there is no script {words[0]!r}: python -m {PACKAGE} script.py', file=sys.stderr)
        sys.exit(2)
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).resolve().parent)
        path = [str(Path(words[0]).absolute())]
        follow_to_workers(path)
        run(path, '__main__')


if __name__ == '__main__':
    main()
elif __name__ == '__mp_main__':  # in a worker process, which gives its main module this name
    globals().update(run(json.loads(os.environ[RUN]), '__mp_main__'))
