"""Run a script that uses MXNet on today's Python and NumPy.

python -m d2l_ft_mxnet.today script.py [args]     run a script
python -m d2l_ft_mxnet.today -m module [args]     run a module
python -m d2l_ft_mxnet.today                      tell what MXNet would miss here
"""

import importlib.metadata
import platform
import runpy
import sys
from pathlib import Path

from d2l_ft_mxnet.today import what_is_missing


def describe() -> str:
    """Return what is installed here, and what MXNet would miss without this."""
    lines = [__doc__.strip(), '', f'here: Python {platform.python_version()}']
    for name in ('numpy', 'mxnet', 'gluoncv'):
        try:
            lines.append(f'      {name} {importlib.metadata.version(name)}')
        except importlib.metadata.PackageNotFoundError:
            lines.append(f'      {name} is not installed')
    missing = what_is_missing()
    said = ', '.join(missing) if missing else 'nothing: MXNet starts here without it'
    return '\n'.join([*lines, f'given to MXNet: {said}'])


def main() -> None:
    """Run what the command line names, as Python itself would."""
    words = sys.argv[1:]
    if not words or words[0] in ('-h', '--help'):
        print(describe())
    elif words[0] == '-m' and len(words) > 1:
        sys.argv = words[1:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    elif words[0].startswith('-') or not Path(words[0]).is_file():
        sys.exit(f'there is no script {words[0]!r}: python -m d2l_ft_mxnet.today script.py [args]')
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name='__main__')


if __name__ == '__main__':
    main()
