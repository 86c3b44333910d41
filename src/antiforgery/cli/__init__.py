"""The command line: parse, call, print. Each module but ``app`` registers one command."""
