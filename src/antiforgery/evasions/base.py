"""What a forger does to a photo before forging."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

Stage = Literal["photo", "crop"]


class Evasion(Protocol):
    """One way to wash a protection out."""

    @property
    def name(self) -> str:
        """As settings and reports write it: ``jpeg:75:420``, ``blur:1.5``, ``resize:0.5``."""
        ...

    @property
    def about(self) -> str:
        """As people are told, after "after": ``a JPEG of quality 75``."""
        ...

    @property
    def stage(self) -> Stage:
        """``photo``: done to the file, before the face is cropped; ``crop``: to the crop."""
        ...

    def finer(self, times: float) -> Evasion:
        """What stands for it on a picture that was reduced from a photo with ``times`` its sides.

        ``times`` is 1 or more. It loses at least what is lost of the photo, seen reduced.
        """
        ...

    def differentiable(self, images: Tensor) -> Tensor:
        """The evasion with useful gradients. Shape: ``(N, 3, H, W)``, range [0, 1], both ways."""
        ...

    def exact(self, images: Tensor) -> Tensor:
        """What a forger's tool really does to 8-bit pixels, without gradients; same shape."""
        ...
