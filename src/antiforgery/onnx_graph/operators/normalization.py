"""Normalisation by stored or by the picture's own statistics."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from antiforgery.onnx_graph.operation import Call, operator

_EPSILON = 1e-5
_FIRST_OPSET_WITH_GROUP_SCALES_PER_CHANNEL = 21


@operator("BatchNormalization")
def _batch_normalization(
    call: Call, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    call.require("training_mode", 0)
    call.require_outputs(1)
    return F.batch_norm(x, mean, variance, scale, shift, eps=call.get("epsilon", _EPSILON))


@operator("InstanceNormalization")
def _instance_normalization(call: Call, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    # One channel a group; unlike F.instance_norm this takes a single pixel.
    return torch.group_norm(x, x.shape[1], scale, shift, call.get("epsilon", _EPSILON))


@operator("GroupNormalization")
def _group_normalization(call: Call, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    groups = call.get("num_groups")
    if call.opset < _FIRST_OPSET_WITH_GROUP_SCALES_PER_CHANNEL:
        repeats = x.shape[1] // groups
        scale, shift = scale.repeat_interleave(repeats), shift.repeat_interleave(repeats)
    return torch.group_norm(x, groups, scale, shift, call.get("epsilon", _EPSILON))


@operator("LayerNormalization")
def _layer_normalization(
    call: Call, x: Tensor, scale: Tensor, shift: Tensor | None = None
) -> Tensor:
    call.require_outputs(1)
    shape = x.shape[call.get("axis", -1) % x.ndim :]
    return F.layer_norm(x, shape, scale, shift, call.get("epsilon", _EPSILON))


@operator("LpNormalization")
def _lp_normalization(call: Call, x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(
        x, ord=call.get("p", 2), dim=call.get("axis", -1), keepdim=True
    )
    return x / length


@operator("Dropout", settings=(1, 2))
def _dropout(call: Call, x: Tensor, *_: Tensor | None) -> Tensor:
    call.require_outputs(1)
    return x
