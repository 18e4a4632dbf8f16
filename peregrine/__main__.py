"""The way in: gives the command line its house."""

from __future__ import annotations

import sys

from peregrine.app.house import ThisHouse
from peregrine.cli.main import run


def main() -> None:
    """Do what the command line says and exit with its code."""
    sys.exit(run(ThisHouse()))


if __name__ == "__main__":
    main()
