"""Where published systems expect eyes, nose and mouth corners: fractions of their square crop."""

from __future__ import annotations

from antiforgery.photo.templates import (
    ARCFACE,
    ARCFACE_128,
    INSIGHTFACE_FRONTAL,
    Template,
    template_of,
)

__all__ = [
    "ARCFACE",
    "ARCFACE_128",
    "CELEBA_170",
    "CELEBA_178",
    "CELEBA_HQ",
    "DEEPFACELAB_WHOLE",
    "FFHQ",
    "HIFIFACE",
    "INSIGHTFACE_FRONTAL",
    "VOXCELEB",
    "Template",
]

_CELEBA = ((68.84, 111.5), (108.5, 111.3), (88.07, 135.2), (71.2, 152.6), (106.4, 152.5))
"""Mean landmarks, as our detector finds them, in CelebA's aligned pictures of 178 x 218 pixels."""

CELEBA_178 = template_of(_CELEBA, 0, 20, 178)
"""The centred square of CelebA's aligned pictures: StarGAN and most editors."""
CELEBA_170 = template_of(_CELEBA, 4, 24, 170)
"""The centred 170-pixel square of the same pictures: AttGAN, STGAN."""
CELEBA_HQ = template_of(_CELEBA, 9.36, 36.2, 158.64)
"""The square of CelebA-HQ (Karras et al., ICLR 2018, appendix C) on the same mean face.

Its side is four times the distance of the eyes, its centre lies a tenth of the way from the middle
of the eyes to that of the mouth.
"""
FFHQ = template_of(
    (
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ),
    0,
    0,
    512,
)
"""The mean face of FFHQ's aligned pictures."""
DEEPFACELAB_WHOLE: Template = (
    (0.3534, 0.3929),
    (0.628, 0.3929),
    (0.4866, 0.5402),
    (0.3884, 0.6875),
    (0.5982, 0.6875),
)
"""DeepFaceLab's whole face, as five points; its own alignment uses 68."""
HIFIFACE: Template = (
    (0.3656, 0.4673),
    (0.6331, 0.4659),
    (0.5002, 0.6194),
    (0.3903, 0.776),
    (0.6118, 0.7748),
)
"""What the ONNX file of HifiFace expects that FaceFusion offers."""
VOXCELEB: Template = (
    (0.358, 0.412),
    (0.642, 0.412),
    (0.5, 0.587),
    (0.374, 0.708),
    (0.626, 0.708),
)
"""Mean landmarks in the square that the first order motion model's script cuts out of VoxCeleb.

That is a detector's box and a tenth around. The boxes are those of our detector, which may differ a
little from those of theirs.
"""
