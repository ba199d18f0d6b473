"""Options that several commands have."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from d2l_ft.backend.registry import VARIABLE, backend_names


class FileType(click.Path):
    """A path; ``~`` is the home of a user, also where no shell has seen to it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        return Path(os.fsdecode(os.path.expanduser(super().convert(value, param, ctx))))


FILE = FileType()


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --backend."""
    text = f'Framework: {", ".join(backend_names())}.  [default: {VARIABLE}, or pytorch]'
    return click.option('--backend', help=text)(command)


def offline_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --offline."""

    def forbid(_ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        from d2l_ft.storage.downloads import OFFLINE_VARIABLE

        if value:
            os.environ[OFFLINE_VARIABLE] = '1'

    text = 'Fetch nothing; use what is in the cache.  [default: D2L_FT_OFFLINE]'
    option = click.option('--offline', is_flag=True, expose_value=False, callback=forbid, help=text)
    return option(command)
