"""The parametrised change of an image, and its budget; one file per colour space."""

from antiforgery.perturbations.base import Apply, Perturbation
from antiforgery.perturbations.lab import LabPerturbation
from antiforgery.perturbations.rgb import RGBPerturbation

__all__ = ["Apply", "LabPerturbation", "Perturbation", "RGBPerturbation"]
