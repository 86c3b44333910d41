"""The reader that comes with the package, and face models of one's own."""

from __future__ import annotations

import json
from importlib import resources

from antiforgery.face_model.regressor import FaceReader, build
from antiforgery.weights import store
from antiforgery.weights.network import filled
from antiforgery.weights.reference import WeightsRef

_BUNDLED_CARD = "face_model.json"


def bundled() -> FaceReader:
    """This project's own face model and the network that reads it, frozen, on the CPU.

    Raises:
        WeightsError: Its weights are damaged.
    """
    folder = resources.files("antiforgery.weights") / "bundled"
    card = json.loads((folder / _BUNDLED_CARD).read_text(encoding="utf-8"))
    reference = WeightsRef(**card["weights"])
    state = store.load_state_dict(store.locate(reference), reference.sha256)
    reader = filled("this project's face model", build, state)
    assert isinstance(reader, FaceReader)  # noqa: S101
    return reader
