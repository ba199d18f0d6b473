"""The d2l-ft command: ``python -m d2l_ft``."""


def main() -> None:
    """Run the command line; a signal during the import of its modules ends it."""
    from d2l_ft.system.signals import handle_signals, stop

    with handle_signals(stop):
        from d2l_ft.cli.main import main as command

        command(prog_name='d2l-ft')


if __name__ == '__main__':
    main()
