import numpy as np
import pandas as pd
import pytest
from federation_app import PATIENT, WEIGHTS
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from pettoolkit.errors import SiteFailed
from pettoolkit.federation import flower, wire
from pettoolkit.federation.checks import expected_of, fault_of, sort_replies

flower.identify()
ASK = wire.request(action="train", kind="model", purpose="training", round=2, arrays=WEIGHTS)


def answer(content, node=1, request=ASK):
    return Message(content, reply_to=Message(request, node, "train"))


def update(arrays=WEIGHTS, **parts):
    parts = {"site": "alder", "kind": "update", "purpose": "training", "round": 2, **parts}
    return wire.reply(arrays=arrays, **parts)


def fault(content, request=ASK, shapes=None):
    return fault_of("alder", answer(content, request=request), expected_of(request, shapes))


def test_a_good_reply_has_no_fault():
    assert fault(update(metrics={"num-examples": 10, "loss": 0.5})) == ""


def spoilt(name, index, value):
    arrays = {n: a.copy() for n, a in WEIGHTS.items()}
    arrays[name][index] = value
    return arrays


@given(
    name=st.sampled_from(["w", "b"]),
    place=st.integers(0, 2),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_a_single_number_that_is_not_finite_is_found_and_its_array_named(name, place, value):
    assert fault(update(spoilt(name, place, value))).startswith(f"array '{name}': ")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"w": WEIGHTS["w"]}, "array 'b' is missing"),
        ({**WEIGHTS, "c": np.zeros(1)}, "array 'c' was not asked for"),
        ({**WEIGHTS, "b": np.zeros(4, dtype=np.float32)}, "array 'b': shape (4,), asked for was (3,)"),
        ({**WEIGHTS, "b": np.zeros(3)}, "array 'b': dtype float64, asked for was float32"),
        ({**WEIGHTS, "b": np.zeros(3, dtype=complex)}, "array 'b': dtype complex128 is not allowed"),
    ],
)
def test_an_update_must_look_like_the_model_that_was_sent(arrays, words):
    assert fault(update(arrays)) == words


def test_stated_shapes_hold_in_place_of_the_models():
    sums = wire.reply(site="alder", kind="statistics", purpose="training", round=2, arrays={"xx": np.eye(3)})
    assert fault(sums, shapes={"xx": (3, 3)}) == ""
    assert fault(sums, shapes={"xx": (4, 4)}) == "array 'xx': shape (3, 3), asked for was (4, 4)"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"site": "birch"}, "comes from hospital birch"),
        ({"purpose": "audit"}, "purpose is 'audit', asked for was 'training'"),
        ({"round": 1}, "for round 1, asked for was 2"),
    ],
)
def test_a_reply_must_be_to_the_question(parts, words):
    assert words in fault(update(**parts))


def test_the_kind_must_be_the_one_that_was_wanted():
    request = wire.request(action="sum", purpose="training", round=2, wants="ciphertext")
    assert "kind is 'update', asked for was 'ciphertext'" in fault(update(), request=request)


def test_an_unknown_kind_is_a_fault():
    content = update()
    content["envelope"]["kind"] = "gossip"
    assert "'gossip' is unknown" in fault(content)


def test_metrics_must_be_finite_and_weights_positive():
    assert "metric 'loss' is not finite" in fault(update(metrics={"num-examples": 5, "loss": float("nan")}))
    assert "metric 'losses' is not finite" in fault(update(metrics={"num-examples": 5, "losses": [0.1, float("inf")]}))
    assert "'num-examples' is 0" in fault(update(metrics={"num-examples": 0}))
    assert "'num-examples' is -3" in fault(update(metrics={"num-examples": -3}))


def test_a_record_that_flower_would_average_unseen_is_a_fault():
    content = update()
    content["more"] = MetricRecord({"x": 1})
    assert "record 'more'" in fault(content)


@pytest.mark.parametrize("name", ["arrays", "metrics"])
def test_a_record_of_the_wrong_type_is_a_fault(name):
    content = update()
    content[name] = ConfigRecord({"x": 1})
    assert f"the record '{name}' holds no {name}" in fault(content)


def test_ciphertexts_come_in_ciphertext_replies_only():
    request = wire.request(action="encrypt", purpose="training", round=2)
    parts = {"site": "alder", "purpose": "training", "round": 2}
    assert fault(wire.reply(kind="ciphertext", blobs=[b"c"], **parts), request) == ""
    assert "in a reply of kind 'statistics'" in fault(wire.reply(kind="statistics", blobs=[b"c"], **parts), request)
    assert "in a reply of kind 'ciphertext'" in fault(wire.reply(kind="ciphertext", arrays=WEIGHTS, **parts), request)
    assert "ciphertext is empty" in fault(wire.reply(kind="ciphertext", blobs=[b""], **parts), request)


def test_rows_may_hold_missing_values_but_no_infinity():
    request = wire.request(action="rows", purpose="training", round=2)
    parts = {"site": "alder", "kind": "raw_records", "purpose": "training", "round": 2}
    assert fault(wire.reply(arrays={"x": np.array([1.0, np.nan])}, **parts), request) == ""
    assert "not finite" in fault(wire.reply(arrays={"x": np.array([1.0, np.inf])}, **parts), request)
    assert fault(wire.reply(tables={"rows": pd.DataFrame({"x": [1.0, np.nan]})}, **parts), request) == ""


def test_a_broken_array_is_named():
    content = update()
    content["arrays"]["b"].data = b"nonsense"
    assert fault(content) == "array 'b': its bytes can't be read"


def test_an_unknown_serialisation_is_a_fault():
    content = update()
    content["arrays"]["b"].stype = "pickle"
    assert "array 'b': its serialisation 'pickle' is unknown" in fault(content)


def test_a_long_error_text_is_cut_and_put_on_one_line():
    reply = flower.error_reply(Message(ASK, 1, "train"), flower.RAISED, "a\nb" + "x" * 10_000)
    text = fault_of("alder", reply, expected_of(ASK))
    assert text.startswith("a b")
    assert len(text) == 500


def test_replies_are_sorted_by_site():
    asked = {1: "zeta", 2: "alpha"}
    replies = [answer(update(site="zeta"), 1), answer(update(site="alpha"), 2)]
    assert list(sort_replies(asked, replies, {})[0]) == ["alpha", "zeta"]


def test_a_foreign_hospital_is_named():
    with pytest.raises(SiteFailed, match="hospital mallory: node 9 answered and was not asked"):
        sort_replies({1: "alder"}, [answer(update(site="mallory"), 9)], {})


def test_a_hospital_that_answers_twice_is_named():
    reply = answer(update(), 1)
    assert sort_replies({1: "alder"}, [reply, reply], {})[1] == {"alder"}


def test_what_a_dropped_hospital_sends_late_is_nobodys_answer():
    late, other = answer(update(), 1), answer(update(site="birch"), 2)
    assert list(sort_replies({2: "birch"}, [late, other], {}, gone={1})[0]) == ["birch"]


def test_an_error_that_a_superlink_sends_in_a_hospitals_place_is_that_hospitals():
    message = Message(ASK, 1, "train")
    flower.set_message_id(message, "m1")
    foreign = Message(ASK, 0, "train")
    flower.set_message_id(foreign, "m1")
    reply = flower.error_reply(foreign, flower.UNAVAILABLE, "gone")
    assert list(sort_replies({1: "alder"}, [reply], {"m1": 1})[0]) == ["alder"]


def test_a_request_that_does_not_say_what_it_is_can_not_be_checked():
    with pytest.raises(ValueError, match="no 'config' record"):
        expected_of(RecordDict({"arrays": ArrayRecord()}))
    assert PATIENT not in str(ASK["config"])
