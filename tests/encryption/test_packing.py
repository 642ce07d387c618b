from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pettoolkit.encryption.packing import (
    Layout,
    chunks,
    flatten,
    from_slots,
    symmetric,
    to_slots,
    upper_triangle,
)
from pettoolkit.errors import BadInput

FLOATS = st.floats(-1e6, 1e6, width=32)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=FLOATS)


@given(st.dictionaries(st.text(min_size=1, max_size=5), ARRAYS, max_size=5))
def test_named_arrays_come_back_as_they_were(arrays):
    vector, layout = flatten(arrays)

    back = layout.unpack(vector)

    assert list(back) == list(arrays)
    assert vector.shape == (layout.values,)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


@given(hnp.arrays(np.float64, st.integers(0, 62), elements=FLOATS), st.complex_numbers(max_magnitude=100))
def test_slots_give_back_values_and_control(values, control):
    slots = to_slots(values, 32, control)

    back, found = from_slots(slots, len(values))

    assert slots.shape == (32,)
    assert found == control
    np.testing.assert_array_equal(back, values)


@given(hnp.arrays(np.float64, 20, elements=FLOATS), hnp.arrays(np.float64, 20, elements=FLOATS))
def test_adding_slots_adds_values(left, right):
    total, control = from_slots(to_slots(left, 11, 1 + 0.25j) + to_slots(right, 11, 1 + 0.25j), 20)

    assert control == 2 + 0.5j
    np.testing.assert_array_equal(total, left + right)


@given(hnp.arrays(np.float64, st.integers(0, 50), elements=FLOATS), st.integers(1, 12))
def test_chunks_join_to_the_vector(vector, size):
    pieces = list(chunks(vector, size))

    assert all(len(piece) <= size for piece in pieces)
    assert len(pieces) == max(1, -(-len(vector) // size))
    np.testing.assert_array_equal(np.concatenate(pieces), vector)


@given(hnp.arrays(np.float64, st.integers(1, 8).map(lambda d: (d, d)), elements=FLOATS))
def test_a_symmetric_matrix_survives_its_upper_triangle(square):
    matrix = square + square.T

    np.testing.assert_array_equal(symmetric(upper_triangle(matrix), len(matrix)), matrix)


def test_wrong_names_and_shapes_are_named():
    layout = Layout.of({"a": np.zeros((2, 3))})

    with pytest.raises(BadInput, match="arrays"):
        layout.pack({"b": np.zeros((2, 3))})
    with pytest.raises(BadInput, match="a has shape"):
        layout.pack({"a": np.zeros((3, 2))})
    with pytest.raises(BadInput, match="does not fill 6 values"):
        layout.unpack(np.zeros(7))
    with pytest.raises(BadInput, match="upper triangle"):
        symmetric(np.zeros(4), 3)
    with pytest.raises(BadInput, match="do not fit"):
        to_slots(np.zeros(7), 4, 0j)
