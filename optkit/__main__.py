"""``python -m optkit``, and the entry point of the ``optkit`` command."""

from __future__ import annotations

import gc
import signal

from optkit.cli.app import app


def main() -> None:
    """Run the command line. Being told to end (SIGTERM) is an interruption like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(prog_name="optkit")
    finally:
        gc.freeze()  # looking for garbage a last time takes more than half a second where torch was imported


if __name__ == "__main__":
    main()
