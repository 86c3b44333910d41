"""A face as a few numbers: the 68 landmarks in space, read off a crop and put back."""

from antiforgery.face_model.basis import read_basis
from antiforgery.face_model.registry import bundled, expressions, reader_of
from antiforgery.face_model.regressor import FaceReader, Fit, FittingReader
from antiforgery.face_model.shape import FaceModel, Parameters, eye_distance, rotation_matrix

__all__ = [
    "FaceModel",
    "FaceReader",
    "Fit",
    "FittingReader",
    "Parameters",
    "bundled",
    "expressions",
    "eye_distance",
    "read_basis",
    "reader_of",
    "rotation_matrix",
]
