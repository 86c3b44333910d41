"""How far images moved: functions of two batches that return one number per image."""

from antiforgery.metrics.delta_e import DeltaE, delta_e
from antiforgery.metrics.identity import identity_similarity
from antiforgery.metrics.l2 import DISRUPTED, l2, l2_mask, success_rate
from antiforgery.metrics.psnr import psnr
from antiforgery.metrics.ssim import ssim

__all__ = [
    "DISRUPTED",
    "DeltaE",
    "delta_e",
    "identity_similarity",
    "l2",
    "l2_mask",
    "psnr",
    "ssim",
    "success_rate",
]
