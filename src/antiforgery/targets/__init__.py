"""DeepFake systems that a photo is protected against; one file and one card each."""

from antiforgery.targets.registry import (
    ONE_OF_EACH_ROLE,
    Reference,
    added,
    card,
    load,
    names,
    parse,
    plug_ins,
    resolve,
    universal_sha256,
    weights_sha256,
    with_roles,
)

__all__ = [
    "ONE_OF_EACH_ROLE",
    "Reference",
    "added",
    "card",
    "load",
    "names",
    "parse",
    "plug_ins",
    "resolve",
    "universal_sha256",
    "weights_sha256",
    "with_roles",
]
