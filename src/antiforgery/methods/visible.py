"""How visible a small change of colour is, pixel by pixel: the metric in which steps are taken.

A change of Lab costs energy in RGB, which PSNR counts and of which SSIM forgives more where the
image varies, and a colour difference, which CIEDE2000 counts. Each is a quadratic form of a small
change, and so is their weighted sum. The most that is won for the least of it lies along the
gradient times the inverse of that form: the natural gradient (Amari, Neural Computation 10, 1998).
"""

from __future__ import annotations

import torch
from torch import Tensor

from antiforgery.color import lab_to_rgb, rgb_to_lab
from antiforgery.metrics.delta_e import ciede2000
from antiforgery.metrics.ssim import tolerance

_REACH = 0.2
"""Half the distance, in Lab units, over which slopes are taken: far more than rounding."""


def visible_metric(images: Tensor, *, masking: float, colour: float) -> Tensor:
    """The form ``energy x (1 + masking / tolerance) + colour x CIEDE2000 squared``.

    Energy is the squared change of RGB, averaged over its channels, as if nothing were clipped.
    ``masking`` is in squared units of [0, 1], ``colour`` in those per squared unit of CIEDE2000.
    Shape: ``(N, 3, H, W)`` in [0, 1] gives ``(N, H, W, 3, 3)`` of L, a and b, positive definite.
    """
    # In double precision, which not every accelerator has; it is taken once a run.
    exact = images.detach().cpu().double()
    lab = rgb_to_lab(exact)
    forgiven = (1 + masking / tolerance(exact)).permute(0, 2, 3, 1).unsqueeze(-1)
    return (_energy(lab) * forgiven + colour * _difference(lab)).to(images)


def ease(metric: Tensor, is_open: Tensor) -> Tensor:
    """What turns a gradient into the step that wins most for what is seen of it.

    Shape: ``(N, H, W, 3, 3)`` and ``(3,)`` of True for channels that may change give the inverse
    of the form among those channels, and 0 for the others.
    """
    shut = torch.diag((~is_open).to(metric))
    both = (is_open[:, None] & is_open).to(metric)
    inverse: Tensor = torch.linalg.inv(metric * both + shut)
    return inverse * both


def follow(ease: Tensor, gradient: Tensor) -> Tensor:
    """The gradient ``(N, 3, H, W)`` turned by ``ease`` ``(N, H, W, 3, 3)``."""
    return torch.einsum("nhwij,njhw->nihw", ease, gradient)


def _energy(lab: Tensor) -> Tensor:
    slopes = []
    for axis in torch.eye(3).to(lab):
        step = _REACH * axis.view(1, 3, 1, 1)
        slopes.append((lab_to_rgb(lab + step) - lab_to_rgb(lab - step)) / (2 * _REACH))
    jacobian = torch.stack(slopes, dim=1)
    return torch.einsum("nichw,njchw->nhwij", jacobian, jacobian) / 3


def _difference(lab: Tensor) -> Tensor:
    """CIEDE2000 squared as a form: its values along the axes and, by polarisation, between them."""
    axes = torch.eye(3).to(lab)
    along = [_squared_difference(lab, axis) for axis in axes]
    form = lab.new_zeros((len(lab), *lab.shape[2:], 3, 3))
    for i in range(3):
        form[..., i, i] = along[i]
        for j in range(i):
            both = _squared_difference(lab, axes[i] + axes[j])
            form[..., i, j] = form[..., j, i] = (both - along[i] - along[j]) / 2
    return form


def _squared_difference(lab: Tensor, direction: Tensor) -> Tensor:
    """CIEDE2000 squared per squared unit along ``direction``, forth and back, ``(N, H, W)``."""
    colours = lab.transpose(0, 1)
    step = _REACH * direction.view(3, 1, 1, 1)
    forth, back = (ciede2000(colours, colours + sign * step) for sign in (1, -1))
    return (forth.square() + back.square()) / (2 * _REACH**2)
