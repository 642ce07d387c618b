"""Named arrays to one vector and back, and two real numbers per complex slot.

A CKKS ciphertext of ring degree N holds N/2 complex slots. Slot 0 is the control slot (see
:mod:`pettoolkit.encryption.envelope`); the others take two consecutive values each, as real and imaginary part.
Additions act on both parts separately, so that sums need no more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pettoolkit.errors import BadInput

Vector = NDArray[np.float64]
Slots = NDArray[np.complex128]


@dataclass(frozen=True)
class Layout:
    """Names, shapes and dtypes of packed arrays, in their order in the vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Layout:
        """Layout of ``arrays`` in their own order."""
        return cls(
            tuple(arrays),
            tuple(tuple(a.shape) for a in arrays.values()),
            tuple(str(a.dtype) for a in arrays.values()),
        )

    @property
    def values(self) -> int:
        """Length of the packed vector."""
        return sum(_size(shape) for shape in self.shapes)

    def pack(self, arrays: Mapping[str, NDArray[Any]]) -> Vector:
        """Flatten ``arrays`` into one float64 vector of shape (values,).

        Raises
        ------
        BadInput
            If names or shapes are not those of this layout.
        """
        if set(arrays) != set(self.names):
            raise BadInput(f"packing: arrays {sorted(arrays)} are not the layout's {sorted(self.names)}")
        for name, shape in zip(self.names, self.shapes, strict=True):
            if tuple(arrays[name].shape) != shape:
                raise BadInput(f"packing: {name} has shape {tuple(arrays[name].shape)}, the layout says {shape}")
        if not self.names:
            return np.zeros(0)
        return np.concatenate([np.asarray(arrays[name], dtype=np.float64).ravel() for name in self.names])

    def unpack(self, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Inverse of :meth:`pack`; each array gets its own shape and dtype back.

        Raises
        ------
        BadInput
            If the vector's shape is not (values,).
        """
        if vector.shape != (self.values,):
            raise BadInput(f"packing: a vector of shape {vector.shape} does not fill {self.values} values")
        out: dict[str, NDArray[Any]] = {}
        start = 0
        for name, shape, dtype in zip(self.names, self.shapes, self.dtypes, strict=True):
            end = start + _size(shape)
            out[name] = vector[start:end].reshape(shape).astype(dtype)
            start = end
        return out


def flatten(arrays: Mapping[str, NDArray[Any]]) -> tuple[Vector, Layout]:
    """One float64 vector of all values, and the layout that takes it apart again."""
    layout = Layout.of(arrays)
    return layout.pack(arrays), layout


def chunks(vector: Vector, size: int) -> Iterator[Vector]:
    """Consecutive pieces of at most ``size`` values; an empty vector is one empty piece."""
    for start in range(0, max(len(vector), 1), size):
        yield vector[start : start + size]


def to_slots(values: Vector, slots: int, control: complex) -> Slots:
    """``values`` (at most 2 * slots - 2 of them) behind the control slot; unused slots are 0. Shape (slots,)."""
    if len(values) > 2 * (slots - 1):
        raise BadInput(f"packing: {len(values)} values do not fit into {slots} slots")
    padded = np.zeros(2 * slots)
    padded[0], padded[1] = control.real, control.imag
    padded[2 : 2 + len(values)] = values
    return padded.view(np.complex128)


def from_slots(slots: Slots, values: int) -> tuple[Vector, complex]:
    """Inverse of :func:`to_slots`: the first ``values`` values, and the control slot."""
    flat = np.ascontiguousarray(slots, dtype=np.complex128).view(np.float64)
    return flat[2 : 2 + values].copy(), complex(slots[0])


def upper_triangle(matrix: NDArray[Any]) -> Vector:
    """Take the d (d + 1) / 2 entries on and above the diagonal of a symmetric (d, d) matrix, row by row."""
    return np.asarray(matrix, dtype=np.float64)[np.triu_indices(matrix.shape[0])]


def symmetric(triangle: Vector, d: int) -> Vector:
    """Inverse of :func:`upper_triangle`: the full symmetric matrix of shape (d, d)."""
    rows, columns = np.triu_indices(d)
    if triangle.shape != (len(rows),):
        raise BadInput(f"packing: {triangle.shape} entries are not the upper triangle of a {d} x {d} matrix")
    matrix = np.zeros((d, d))
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
