"""What importing the core loads."""

import os
import subprocess
import sys


def python(code, **environment):
    """Run code in a new interpreter and return its output."""
    done = subprocess.run(
        [sys.executable, '-c', code], env=os.environ | environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_importing_the_core_loads_no_framework():
    code = (
        'import sys, pkgutil, importlib, d2l_ft\n'
        'for each in pkgutil.walk_packages(d2l_ft.__path__, "d2l_ft."):\n'
        '    importlib.import_module(each.name)\n'
        'assert "d2l_ft.parity.rungs.step" in sys.modules\n'
        '[getattr(d2l_ft, name) for name in d2l_ft.__all__]\n'
        'print(sorted({"torch", "torchvision", "mxnet", "gluoncv"} & set(sys.modules)))'
    )
    assert python(code) == '[]'
