"""``python -m antiforgery``: the command line."""

from antiforgery.cli.app import main

if __name__ == "__main__":
    main()
