"""Generated pages are what their numbers give."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('script', ['parity_page.py', 'reliability.py', 'performance.py'])
def test_a_generated_page_is_fresh(script):
    script = ROOT / 'benchmarks' / script
    done = subprocess.run(
        [sys.executable, str(script), '--check'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
