"""Lines for the user that appear above a progress bar instead of inside it."""

import sys

from tqdm import tqdm


def tell(text: str) -> None:
    """Print what goes on; nothing in a notebook, whose output would vary by it."""
    if 'ipykernel' not in sys.modules:
        tqdm.write(text)


def warn(text: str) -> None:
    """Print to the error stream what the user should know though the work goes on."""
    tqdm.write(f'd2l-ft: {text}', file=sys.stderr)
