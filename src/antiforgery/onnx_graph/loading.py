"""Loads ONNX files: every one is run beside onnxruntime before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from antiforgery.errors import WeightsError
from antiforgery.onnx_graph.batching import Pass, settle_batching
from antiforgery.onnx_graph.graph import FAILURES, Graph
from antiforgery.onnx_graph.reading import Contents, read
from antiforgery.weights import store
from antiforgery.weights.reference import WeightsRef, sha256_of

TOLERANCE = 1e-4
"""Largest difference from onnxruntime, relative to an output's largest value or to one."""
HALF_TOLERANCE = 2e-2
"""The same for files that compute in half precision, where onnxruntime rounds and we do not."""
_SEED = 0


def load(
    path: Path,
    samples: Mapping[str, Tensor] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """The graph of an ONNX file: :func:`read` and :func:`checked` in one. Raises what they do."""
    return checked(read(path), samples, outputs)


def checked(
    contents: Contents,
    samples: Mapping[str, Tensor] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """The graph of a file, on the CPU, found to compute what onnxruntime computes.

    ``samples`` are the inputs of that comparison, two rows each; without them they are random
    numbers in [0, 1) of the shapes that the file declares. ``outputs`` are those to compute.

    Raises:
        WeightsError: An operator is not supported, the file fails, or its results are not those
            of onnxruntime.
    """
    with _told_of(contents.path):
        graph = Graph(contents, outputs)
    tolerance = HALF_TOLERANCE if contents.is_half else TOLERANCE
    rows = sample_inputs(contents) if samples is None else dict(samples)
    row = {name: value[:1] for name, value in rows.items()}
    reference = _by_onnxruntime(graph, row)
    with _told_of(contents.path), torch.no_grad():
        first = Pass(*graph.traced(row))
    _require_agreement(graph, first.outputs, reference, tolerance)
    settle_batching(graph, rows, first, TOLERANCE)
    return graph.eval().requires_grad_(False)


def located(ref: WeightsRef) -> Path:
    """The file that a card names, after checking its hash.

    Raises:
        WeightsError: It is not here and cannot be fetched, or is damaged.
    """
    path = store.locate(ref)
    found = sha256_of(path)
    if found != ref.sha256:
        raise WeightsError(
            f"{path} is damaged or not the file that is wanted: its sha256 is {found} instead of "
            f"{ref.sha256}; {store.remedy(path)}"
        )
    return path


def sample_inputs(contents: Contents) -> dict[str, Tensor]:
    """Two rows of random numbers in [0, 1) for each input.

    Raises ``WeightsError`` where a side other than the batch is left open.
    """
    generator = torch.Generator().manual_seed(_SEED)
    rows = {}
    for port in contents.inputs:
        if None in port.shape[1:]:
            raise WeightsError(
                f"{contents.path} leaves the size of its input {port} open: a card has to name it"
            )
        sides = [side or 1 for side in port.shape[1:]]
        rows[port.name] = torch.rand(2, *sides, generator=generator)
    return rows


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn what an operator raises into a sentence that names its node."""
    try:
        yield
    except FAILURES as error:
        place = "; ".join(getattr(error, "__notes__", []))
        raise WeightsError(f"{path} cannot be carried out: {_line(error)} ({place})") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _require_agreement(
    graph: Graph,
    ours: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    tolerance: float,
) -> None:
    differences = [_difference(ours[name], reference[name]) for name in graph.outputs]
    # What is not a number is no agreement either: unlike Python's, this maximum keeps it.
    difference = float(torch.tensor(differences).max())
    if not difference <= tolerance:
        raise WeightsError(
            f"{graph.path} does not compute here what onnxruntime computes: the results differ by "
            f"{difference:.2g} where {tolerance:g} is allowed, so it is not used"
        )


def _by_onnxruntime(graph: Graph, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(graph.path), options, providers=["CPUExecutionProvider"]
        )
        kinds = {each.name: _NUMPY_KINDS.get(each.type, "float32") for each in session.get_inputs()}
        values = {name: value.numpy().astype(kinds[name]) for name, value in feeds.items()}
        results = session.run(list(graph.outputs), values)
    except Exception as error:
        # Its errors share no base class but Exception.
        raise WeightsError(
            f"{graph.path} cannot be checked, because onnxruntime does not run it: {_line(error)}"
        ) from error
    return {
        name: torch.from_numpy(result.astype("float64"))
        for name, result in zip(graph.outputs, results, strict=True)
    }


_NUMPY_KINDS = {"tensor(float16)": "float16", "tensor(double)": "float64"}


def _difference(ours: Tensor, reference: Tensor) -> float:
    if ours.shape != reference.shape:
        return float("inf")
    scale = max(1.0, float(reference.abs().max()))
    return float((ours.double() - reference).abs().max()) / scale
