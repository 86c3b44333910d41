"""Identity encoders: networks that tell who is seen. One file each."""

from antiforgery.encoders.base import EncoderArchitecture, EncoderFacts, IdentityEncoder
from antiforgery.encoders.registry import (
    architectures,
    bundled,
    encoder_of,
    load,
    read,
    recognise,
)

__all__ = [
    "EncoderArchitecture",
    "EncoderFacts",
    "IdentityEncoder",
    "architectures",
    "bundled",
    "encoder_of",
    "load",
    "read",
    "recognise",
]
