"""The d2l-ft command."""

import errno
import re
import sys
from typing import Any

import click

from d2l_ft import __version__
from d2l_ft.cli.chapter import chapter
from d2l_ft.cli.compare import compare
from d2l_ft.cli.convert import convert, inspect, verify, witness
from d2l_ft.cli.data import data
from d2l_ft.cli.doctor import doctor
from d2l_ft.cli.evaluate import evaluate
from d2l_ft.cli.options import as_flags
from d2l_ft.cli.parity import parity
from d2l_ft.cli.predict import predict
from d2l_ft.cli.train import train
from d2l_ft.errors import D2LFTError
from d2l_ft.system.console import OutputFailed, safe_streams, warn
from d2l_ft.system.signals import exit_code, handle_signals, stop, stop_line

FEW_FILES = 'this process may not open more files: allow more with  ulimit -n 1024'
LITTLE_MEMORY = 'there is not enough memory for this: free some, or compute with less at once'

NO_MEMORY = re.compile("can't allocate memory|Failed to allocate")
"""How PyTorch and MXNet say it."""


def too_few_files(error: BaseException | None) -> bool:
    """Tell whether an error was caused, directly or not, by the system's limit of open files."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        if isinstance(error, ImportError | OSError) and 'Too many open files' in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def too_little_memory(error: BaseException) -> bool:
    """Tell whether an error is that of the system, PyTorch or MXNet for memory that ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    told = isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None
    return told or isinstance(error, MemoryError)


def lack(error: Exception) -> str:
    """Return what an error says of open files or memory that ran out, or nothing."""
    if too_few_files(error):
        return FEW_FILES
    return LITTLE_MEMORY if too_little_memory(error) else ''


class Commands(click.Group):
    """A group whose D2LFTErrors, and wrong options, are one line and exit code 2."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command line."""
        with handle_signals(stop), safe_streams():
            code = self._main(standalone_mode, *args, **extra)
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def _main(self, standalone_mode: bool, *args: Any, **extra: Any) -> Any:
        """Return the exit code of a command line, or what its command returns."""
        run: Any = super().main
        code: Any
        try:
            code = run(*args, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.UsageError as error:
            if not standalone_mode:
                raise
            path = error.ctx.command_path if error.ctx else 'd2l-ft'
            text = error.format_message()
            if text.startswith(
                'Usage: '
            ):  # click's answer to a group without a command is its help
                click.echo(text, err=True)
            else:
                warn(f'{" ".join(text.split()).rstrip(".")}: see  {path} --help')
            code = 2
        except click.Abort as error:
            code = exit_code(error.__cause__)
        except KeyboardInterrupt as error:  # while a command's options were read
            warn(stop_line(error))
            code = exit_code(error)
        except OutputFailed as error:
            if error.code == 1:  # a closed pipe is not reported, as by the commands of the system
                warn(str(error))
            code = error.code
        return code

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            lacking = lack(error)
            if ctx.params.get('debug') or not (lacking or isinstance(error, D2LFTError)):
                raise
            warn(lacking or as_flags(str(error)))
            ctx.exit(2)
        except KeyboardInterrupt as error:
            warn(stop_line(error))
            ctx.exit(exit_code(error))


@click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help']})
@click.option('--debug', is_flag=True, help='Show the traceback of an error.')
@click.version_option(__version__, prog_name='d2l-ft')
def main(debug: bool) -> None:
    """Fine-tune an image classifier on MXNet Gluon or on PyTorch.

    \b
    Examples:
      d2l-ft train --compare                 the built-in sample; nothing is downloaded
      d2l-ft train --data photos --source imagenet
      d2l-ft predict runs/mine cat.jpg       with either framework
      d2l-ft doctor                          what is installed, what is missing

    The framework is that of --backend, otherwise of D2L_FT_BACKEND, otherwise PyTorch.
    """


for each in (
    chapter, compare, convert, data, doctor, evaluate, inspect, parity, predict, train, verify,
    witness,
):  # fmt: skip
    main.add_command(each)
