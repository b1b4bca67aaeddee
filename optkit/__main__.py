"""``python -m optkit``, and the entry point of the ``optkit`` command."""

from __future__ import annotations

from optkit.cli.app import app
from optkit.cli.verbs import add_to

add_to(app)


def main() -> None:
    """Run the command line."""
    app(prog_name="optkit")


if __name__ == "__main__":
    main()
