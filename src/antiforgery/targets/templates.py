"""Where published systems expect eyes, nose and mouth corners: fractions of their square crop."""

from __future__ import annotations

from antiforgery.photo.templates import ARCFACE, INSIGHTFACE_FRONTAL, Template, template_of

__all__ = ["ARCFACE", "CELEBA_170", "CELEBA_178", "INSIGHTFACE_FRONTAL", "Template"]

_CELEBA = ((68.84, 111.5), (108.5, 111.3), (88.07, 135.2), (71.2, 152.6), (106.4, 152.5))
"""Mean landmarks, as our detector finds them, in CelebA's aligned pictures of 178 x 218 pixels."""

CELEBA_178 = template_of(_CELEBA, 0, 20, 178)
"""The centred square of CelebA's aligned pictures: StarGAN and most editors."""
CELEBA_170 = template_of(_CELEBA, 4, 24, 170)
"""The centred 170-pixel square of the same pictures: AttGAN, STGAN."""
