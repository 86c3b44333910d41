"""Trains from the command line: ``python -m antiforgery.training NAME --data DIR --out DIR``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from antiforgery.errors import AntiForgeryError, CancelledError
from antiforgery.training.start import start


def main() -> None:
    """Run one training and exit with a code that says how it went."""
    parser = argparse.ArgumentParser(prog="python -m antiforgery.training")
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int)
    options = vars(parser.parse_args())
    try:
        weights = start(options.pop("name"), **options)
    except AntiForgeryError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(CancelledError.exit_code)
    sys.stdout.write(f"{weights}\n")


if __name__ == "__main__":
    main()
