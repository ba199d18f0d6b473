"""Generated pages are what their numbers give."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_the_proof_is_fresh():
    script = ROOT / 'benchmarks/parity_page.py'
    done = subprocess.run(
        [sys.executable, str(script), '--check'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
