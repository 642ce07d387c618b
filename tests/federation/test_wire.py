import pickle

import numpy as np
import pandas as pd
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pettoolkit.federation import flower, wire


def copy_of(content: RecordDict) -> RecordDict:
    return flower.load_content(flower.dump_content(content))


@given(
    hnp.arrays(
        dtype=hnp.scalar_dtypes() | hnp.unicode_string_dtypes(),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.booleans(),
)
def test_arrays_are_written_as_flower_writes_them(array, transposed):
    array = array.T[..., ::2] if transposed and array.ndim else array

    ours, theirs = wire.encode(array), Array(array)

    assert (ours.data, ours.dtype, ours.shape, ours.stype) == (theirs.data, theirs.dtype, theirs.shape, theirs.stype)


def test_an_array_of_objects_is_not_sent():
    with pytest.raises(ValueError, match="Python objects"):
        wire.encode(np.array([{}]))


@given(
    hnp.arrays(
        dtype=st.sampled_from([np.float32, np.float64, np.int64, np.int8, np.bool_]),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_arrays_come_back_bit_for_bit(array):
    content = copy_of(RecordDict({"arrays": wire.to_record({"x": array})}))
    back = wire.arrays_of(content)["x"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
def test_ciphertexts_come_back_in_order(blobs):
    content = copy_of(wire.request(action="add", purpose="training", kind="ciphertext", blobs=blobs))
    assert wire.blobs_of(content) == blobs


def test_a_ciphertext_is_no_array_for_flower():
    record = wire.blobs_to_record([b"secret"])
    with pytest.raises(TypeError):
        record["00000"].numpy()


def test_a_table_comes_back_with_its_types():
    table = pd.DataFrame(
        {
            "id": ["p1", "p2", None],
            "age": np.array([61, 72, 80], dtype=np.int16),
            "lactate": [1.5, np.nan, 2.25],
            "septic": [True, False, True],
            "unit": pd.Categorical(["MICU", None, "SICU"], categories=["MICU", "SICU", "other"]),
            "admitted": pd.to_datetime(["2019-01-01", "2019-02-01", None]),
        }
    )
    content = copy_of(wire.reply(site="a", kind="raw_records", purpose="training", tables={"rows": table}))
    pd.testing.assert_frame_equal(wire.tables_of(content)["rows"], table)


def test_the_index_of_a_table_stays_at_home():
    table = pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index(["patient 7", "patient 9"], name="who"))
    array = wire.table_to_array(table)
    assert b"patient" not in array.data
    assert b"who" not in array.data


def test_a_table_with_a_python_object_is_refused_without_quoting_it():
    with pytest.raises(ValueError, match="a column can't be sent") as caught:
        wire.table_to_array(pd.DataFrame({"x": [object(), "patient 7"]}))
    assert "patient" not in str(caught.value)


def test_object_arrays_are_refused():
    with pytest.raises(ValueError):
        wire.to_record({"x": np.array([{"a": 1}], dtype=object)})


def test_pickled_bytes_are_never_loaded():
    array = Array(dtype="object", shape=(), stype="numpy.ndarray", data=pickle.dumps([1]))
    with pytest.raises(ValueError, match=r"array 'x'.*can't be read"):
        wire.from_record(ArrayRecord({"x": array}))


def test_an_array_that_lies_about_its_shape_is_refused():
    honest = wire.to_record({"x": np.zeros(3)})["x"]
    liar = Array(dtype="float64", shape=(4,), stype="numpy.ndarray", data=honest.data)
    with pytest.raises(ValueError, match=r"array 'x'.*float64\[4\]"):
        wire.from_record(ArrayRecord({"x": liar}))


def test_bytes_that_are_no_table_are_refused():
    array = Array(dtype="table", shape=(1, 1), stype=wire.STYPE_ARROW, data=b"nonsense")
    with pytest.raises(ValueError, match="no Arrow table"):
        wire.array_to_table(array)


def test_a_request_is_read_as_it_was_written():
    content = wire.request(
        arm="federated", action="train", kind="model", purpose="training", spec_json='{"a": 1}', round=3,
        arrays={"w": np.ones(2)}, extra={"lr": 0.5, "batch": 64}, wants="update",
    )  # fmt: skip
    request = wire.read_request(copy_of(content))
    assert (request.arm, request.action, request.kind, request.purpose) == ("federated", "train", "model", "training")
    assert (request.spec, request.round, request.wants) == ('{"a": 1}', 3, "update")
    assert request.extra == {"lr": 0.5, "batch": 64}


def test_the_round_that_a_flower_strategy_writes_wins():
    config = wire.request(action="train", purpose="training")["config"]
    config["server-round"] = 4
    assert wire.read_request(RecordDict({"config": config})).round == 4


def test_metrics_are_read_as_they_were_written():
    content = wire.reply(site="a", kind="metrics", purpose="evaluation", metrics={"n": 3, "auroc": [0.5, 0.75]})
    assert wire.metrics_of(copy_of(content)) == {"n": 3, "auroc": [0.5, 0.75]}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"kind": "gossip"}, "kind: 'gossip'"),
        ({"purpose": "fun"}, "purpose: 'fun'"),
        ({"wants": "request"}, "wants: 'request'"),
        ({"extra": {"spec": "x"}}, "extra: .*spec"),
        ({"arrays": {}, "blobs": []}, "one of them"),
    ],
)
def test_a_request_with_unknown_words_is_refused(words, named):
    with pytest.raises(ValueError, match=named):
        wire.request(**{"action": "train", "purpose": "training", **words})


@pytest.mark.parametrize("lost", ["kind", "purpose", "site"])
def test_an_incomplete_envelope_is_refused(lost):
    content = wire.reply(site="a", kind="metrics", purpose="setup")
    del content["envelope"][lost]
    with pytest.raises(ValueError, match=lost):
        wire.read_envelope(content)


def test_a_message_without_an_envelope_is_refused():
    with pytest.raises(ValueError, match="no 'envelope' record"):
        wire.read_envelope(RecordDict({"other": ConfigRecord()}))
