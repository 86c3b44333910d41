"""What a forger does to a photo before forging, to wash the protection out; one file each."""

from antiforgery.evasions.registry import names, parse

__all__ = ["names", "parse"]
