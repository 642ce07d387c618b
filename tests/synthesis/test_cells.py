import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_table import CONTRACT, people

from pettoolkit.synthesis.cells import Cells, cells_of

COLUMNS = CONTRACT.feature_columns
ANYTHING = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.just(0.0), st.just(1.0))


@given(
    st.lists(ANYTHING, max_size=30), st.sampled_from([c for c in COLUMNS if c.kind != "category"]), st.integers(2, 40)
)
def test_every_value_falls_into_exactly_one_cell(values, column, bins):
    cells = Cells.of(column, bins)
    codes = cells.encode(pd.DataFrame({column.name: np.array(values, dtype=float)}))
    assert len(codes) == len(values)
    assert ((codes >= 0) & (codes < len(cells))).all()


# whole numbers are left out: rounding may move one to the neighbouring bin
@pytest.mark.parametrize("column", [c for c in COLUMNS if not c.integer], ids=lambda c: c.name)
def test_decoding_a_cell_gives_a_value_of_that_cell(column):
    cells = Cells.of(column, 16)
    codes = np.repeat(np.arange(len(cells)), 20)

    values = cells.decode(codes, np.random.default_rng(0))

    assert (cells.encode(pd.DataFrame({column.name: values})) == codes).all()


def test_cells_do_not_depend_on_the_data():
    few, many = people(3, seed=1), people(300, seed=2)
    for cells in cells_of(CONTRACT, 16):
        both = np.r_[cells.encode(few), cells.encode(many)]
        together = cells.encode(pd.concat([few, many], ignore_index=True))
        assert (both == together).all()


def test_an_unknown_level_counts_as_missing():
    ward = next(c for c in cells_of(CONTRACT, 8) if c.column.name == "Ward")
    assert ward.encode(pd.DataFrame({"Ward": ["west", None, "north"]})).tolist() == [3, 3, 0]
