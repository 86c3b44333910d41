"""DeepFake systems that a photo is protected against; one file and one card each."""

from antiforgery.targets.registry import (
    Reference,
    card,
    load,
    names,
    parse,
    plug_ins,
    resolve,
    weights_sha256,
    with_roles,
)

__all__ = [
    "Reference",
    "card",
    "load",
    "names",
    "parse",
    "plug_ins",
    "resolve",
    "weights_sha256",
    "with_roles",
]
