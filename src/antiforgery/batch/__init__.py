"""Many photos: which go where, what is done already, one result after the other."""

from antiforgery.batch.manifest import MANIFEST_NAME as MANIFEST_NAME
from antiforgery.batch.plan import Item as Item
from antiforgery.batch.plan import Plan as Plan
from antiforgery.batch.plan import make_plan as make_plan
from antiforgery.batch.record import SCHEMA as SCHEMA
from antiforgery.batch.record import Record as Record
from antiforgery.batch.record import Status as Status
from antiforgery.batch.run import Worker as Worker
from antiforgery.batch.run import preview as preview
from antiforgery.batch.run import run as run

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA",
    "Item",
    "Plan",
    "Record",
    "Status",
    "Worker",
    "make_plan",
    "preview",
    "run",
]
