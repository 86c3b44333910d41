"""Published algorithms that protect images; one file per paper."""

from antiforgery.methods.antiforgery import AntiForgery
from antiforgery.methods.base import Method, Outcome
from antiforgery.methods.cw import CW
from antiforgery.methods.pgd import PGD
from antiforgery.methods.registry import create
from antiforgery.methods.robust_lab import RobustLab

__all__ = ["CW", "PGD", "AntiForgery", "Method", "Outcome", "RobustLab", "create"]
