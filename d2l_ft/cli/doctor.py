"""The command that reports what is installed."""

import json
from typing import Any

import click

from d2l_ft.backend.registry import backend_name, backend_names, get_backend
from d2l_ft.errors import D2LFTError
from d2l_ft.system.console import say


@click.command()
@click.option('--json', 'as_json', is_flag=True, help='Print one JSON object.')
def doctor(as_json: bool) -> None:
    """Report what is installed, its devices and threads, and what is missing.

    The cache, whose folder D2L_FT_HOME names, may be deleted while nothing runs: downloads, source
    models, features and lists of checked images are made again when needed.

    \b
    Example:
      d2l-ft doctor --json
    """
    found = diagnose()
    if as_json:
        say(json.dumps(found))
        return
    sizes = ', '.join(f'{name} {size / 2**20:.1f} MiB' for name, size in found['cached'].items())
    rows = {
        'chosen': found['chosen'],
        'cores': f'{found["cores"]}, {"with" if found["bfloat16"] else "without"} bfloat16',
        'cache': f'{found["cache"]}: {sizes or "empty"}',
        'versions': ', '.join(f'{name} {version}' for name, version in found['versions'].items()),
    }
    for name, state in found['backends'].items():
        rows[name] = state.get('error') or (
            f'works on {", ".join(state["devices"])} with {state["threads"]} thread(s)'
        )
    for name, text in rows.items():
        say(f'{name}: {text}')


def diagnose() -> dict[str, Any]:
    """Return what ``doctor`` prints."""
    from d2l_ft.backend.versions import versions
    from d2l_ft.storage.cache import cache_path, cache_sizes
    from d2l_ft.system.hardware import has_bfloat16, usable_cores

    backends: dict[str, Any] = {}
    for name in backend_names():
        try:
            backend = get_backend(name)
            devices = [str(device) for device in backend.devices('auto')]
            backends[name] = {'devices': devices, 'threads': backend.threads()}
        except D2LFTError as error:
            backends[name] = {'error': str(error)}
    try:
        chosen = backend_name()
    except D2LFTError as error:
        chosen = str(error)
    return {
        'chosen': chosen,
        'cores': usable_cores(),
        'bfloat16': has_bfloat16(),
        'cache': str(cache_path()),
        'cached': cache_sizes(),
        'versions': versions(),
        'backends': backends,
    }
