import random

import numpy as np
import pytest
from federation_app import PATIENT, WEIGHTS, make_app
from flwr.app import ConfigRecord, Message
from flwr.serverapp.strategy import FedAvg

from pettoolkit.errors import BadInput, SiteFailed
from pettoolkit.federation import wire
from pettoolkit.federation.inprocess import InProcessGrid
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import from_json, to_json

ROUNDS = 5


def metered(hosted, **policy):
    return MeteredGrid(InProcessGrid(make_app, hosted), **policy)


def ask_all(grid, action, **parts):
    parts = {"kind": "model", "arrays": WEIGHTS, "purpose": "training", **parts}
    return {site: wire.request(action=action, **parts) for site in grid.sites}


def fedavg(grid):
    """Flower's own FedAvg, exactly as an arm uses it."""
    n = len(list(grid.get_node_ids()))
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=n, min_evaluate_nodes=n, min_available_nodes=n)
    config = wire.request(action="train", kind="model", purpose="training")["config"]
    return strategy.start(grid, wire.to_record(WEIGHTS), num_rounds=ROUNDS, train_config=ConfigRecord(dict(config)))


def plain_loop(hosted, rounds=ROUNDS):
    """What FedAvg should be: a weighted mean over hospitals, in sorted order, round by round."""
    weights = {name: array.copy() for name, array in WEIGHTS.items()}
    counts = [hosted[site]["n"] for site in sorted(hosted)]
    for _ in range(rounds):
        updates = [
            {n: (a + 0.1 * (hosted[site]["value"] - a)).astype(a.dtype) for n, a in weights.items()}
            for site in sorted(hosted)
        ]
        shares = [count / sum(counts) for count in counts]
        weights = {n: sum(u[n] * share for u, share in zip(updates, shares, strict=True)) for n in weights}
    return weights


def test_site_names_are_learnt_from_the_hospitals(hosted, inline):
    grid = MeteredGrid(inline)
    assert grid.sites == ("alder", "birch", "cedar", "elm", "fir")
    assert grid.node_of("cedar") == 3


def test_flowers_fedavg_is_the_weighted_mean_bit_for_bit(hosted):
    got = wire.from_record(fedavg(metered(hosted)).arrays)
    wanted = plain_loop(hosted)
    assert {n: a.tobytes() for n, a in got.items()} == {n: a.tobytes() for n, a in wanted.items()}


def test_flowers_fedavg_is_repeatable_whatever_it_samples_first(hosted):
    runs = []
    for seed in (1, 2):
        random.seed(seed)  # FedAvg draws the order of asking from here
        runs.append(wire.from_record(fedavg(metered(hosted)).arrays)["w"].tobytes())
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("nan", r"array 'w': 1 of 12 numbers are not finite"),
        ("infinite_metric", "metric 'num-examples' is not finite"),
        ("wrong_shape", r"array 'b': shape \(4,\), asked for was \(3,\)"),
        ("wrong_dtype", "array 'w': dtype float64"),
        ("lack", "array 'b' is missing"),
        ("weightless", "'num-examples' is 0"),
        ("other_purpose", "purpose is 'audit'"),
        ("other_round", "for round 0, asked for was 1"),
        ("other_site", "comes from hospital elsewhere"),
        ("leak", "ValueError"),
    ],
)
def test_a_hospital_that_misbehaves_is_named_before_fedavg_averages_it(hosted, bad, words):
    hosted["cedar"]["bad"] = bad
    with pytest.raises(SiteFailed, match=f"hospital cedar: .*{words}") as caught:
        fedavg(metered(hosted))
    assert caught.value.site == "cedar"
    assert PATIENT not in str(caught.value)


class Lossy(InProcessGrid):
    """Loses one hospital's reply, or brings somebody else's, or one twice."""

    def __init__(self, hosted, how):
        super().__init__(make_app, hosted)
        self.how = how
        self.rounds = 0

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        if self.how == "foreign" and self.rounds:
            messages = [*messages, Message(messages[0].content, 5, "query")]
        self.rounds += 1
        replies = super().send_and_receive(messages, timeout=timeout)
        if self.rounds == 1:
            return replies
        return {"lost": replies[:2] + replies[3:], "twice": [*replies, replies[3]], "foreign": replies}[self.how]


@pytest.mark.parametrize(
    ("how", "words"), [("lost", "hospital cedar: gave no answer"), ("twice", "hospital elm: answered twice")]
)
def test_a_lost_or_doubled_reply_is_named(hosted, how, words):
    grid = MeteredGrid(Lossy(hosted, how))
    with pytest.raises(SiteFailed, match=words):
        grid.ask(ask_all(grid, "echo"))


def test_an_answer_of_a_hospital_that_was_not_asked_is_named(hosted):
    grid = MeteredGrid(Lossy(hosted, "foreign"))
    requests = ask_all(grid, "echo")
    del requests["fir"]
    with pytest.raises(SiteFailed, match="hospital fir: node 5 answered and was not asked"):
        grid.ask(requests)


def test_hospitals_that_fail_alike_are_named_together(hosted):
    hosted["birch"]["bad"] = hosted["elm"]["bad"] = "leak"
    grid = metered(hosted)
    with pytest.raises(SiteFailed, match="hospital birch, elm: ValueError"):
        grid.ask(ask_all(grid, "echo"))


def test_ask_answers_in_sorted_order_of_sites(hosted):
    grid = metered(hosted)
    requests = dict(reversed(ask_all(grid, "total", arrays={"x": np.arange(4.0)}, kind="statistics").items()))
    replies = grid.ask(requests, round=7, expect={"sum": ()})
    assert list(replies) == sorted(hosted)
    assert {s: float(wire.arrays_of(r)["sum"]) for s, r in replies.items()} == {
        site: 6 + held["value"] for site, held in hosted.items()
    }
    assert wire.read_envelope(replies["elm"]).round == 7


def test_asking_some_hospitals_asks_no_other(hosted):
    grid = metered(hosted)
    grid.ask({"elm": wire.request(action="count", purpose="setup")})
    counted = grid.ask({site: wire.request(action="count", purpose="setup") for site in ("birch", "elm")})
    assert {site: wire.metrics_of(reply)["asked"] for site, reply in counted.items()} == {"birch": 1, "elm": 2}


def test_an_unknown_hospital_is_named(hosted):
    with pytest.raises(SiteFailed, match="hospital oak: is not connected"):
        metered(hosted).ask({"oak": wire.request(action="echo", purpose="training")})


def test_a_hospital_that_should_be_there_and_is_not_is_named(hosted):
    with pytest.raises(SiteFailed, match="hospital oak: is not connected"):
        _ = metered(hosted, sites=[*hosted, "oak"]).sites


def test_two_nodes_with_one_name_are_refused(hosted):
    hosted["birch"]["says"] = "alder"
    with pytest.raises(SiteFailed, match="hospital alder: two nodes"):
        _ = metered(hosted).sites


def test_only_shows_a_strategy_its_own_hospitals(hosted):
    grid = metered(hosted)
    part = grid.only(["birch", "fir"])
    got = wire.from_record(fedavg(part).arrays)
    wanted = plain_loop({site: hosted[site] for site in ("birch", "fir")})
    assert got["w"].tobytes() == wanted["w"].tobytes()
    trained = {row.site for row in grid.exposure().traffic if row.kind == "update"}
    assert trained == {"birch", "fir"}
    with pytest.raises(SiteFailed, match="at node 1: takes no part"):
        part.send_and_receive([Message(wire.request(action="echo", purpose="training"), 1, "query")])


# -- dropping --------------------------------------------------------------------------------------


def test_a_dropped_hospital_is_recorded_and_left_out_of_the_average(hosted):
    hosted["cedar"]["bad"] = "nan"
    grid = metered(hosted, on_failure="drop", min_sites=4)
    got = wire.from_record(fedavg(grid).arrays)
    wanted = plain_loop({site: held for site, held in hosted.items() if site != "cedar"})
    assert got["w"].tobytes() == wanted["w"].tobytes()
    assert "not finite" in grid.dropped["cedar"]
    assert grid.sites == ("alder", "birch", "elm", "fir")


def test_a_dropped_hospital_is_not_asked_again(hosted):
    hosted["cedar"]["bad"] = "leak"
    grid = metered(hosted, on_failure="drop", min_sites=1)
    requests = ask_all(grid, "echo")
    assert list(grid.ask(requests)) == ["alder", "birch", "elm", "fir"]
    before = grid.exposure().bytes_per_site("in")["cedar"]
    grid.ask(requests)
    assert grid.exposure().bytes_per_site("in")["cedar"] == before


def test_too_few_hospitals_end_the_run(hosted):
    hosted["cedar"]["bad"] = hosted["elm"]["bad"] = "leak"
    grid = metered(hosted, on_failure="drop", min_sites=4)
    with pytest.raises(SiteFailed, match=r"hospital cedar, elm: ValueError; 3 hospitals remain and min_sites is 4"):
        grid.ask(ask_all(grid, "echo"))


def test_one_call_may_be_more_forgiving_than_the_meter(hosted):
    hosted["cedar"]["bad"] = "leak"
    grid = metered(hosted)
    assert "cedar" not in grid.ask(ask_all(grid, "echo"), missing="drop")


def test_an_absent_hospital_can_be_dropped_from_the_start(hosted):
    grid = metered(hosted, sites=[*hosted, "oak"], on_failure="drop", min_sites=5)
    assert grid.sites == tuple(sorted(hosted))
    assert "not connected" in grid.dropped["oak"]
    assert len(grid.get_node_ids()) == 5


@pytest.mark.parametrize(
    ("policy", "field"), [({"on_failure": "hope"}, "on_failure"), ({"on_failure": "drop"}, "min_sites")]
)
def test_a_fault_policy_that_makes_no_sense_is_refused(inline, policy, field):
    with pytest.raises(BadInput, match=f"faults.{field}"):
        MeteredGrid(inline, **policy)


# -- the meter -------------------------------------------------------------------------------------


def test_each_message_is_counted_with_its_serialised_bytes(hosted):
    grid = metered(hosted)
    requests = ask_all(grid, "echo", wants="update")
    sizes = []
    for number in (1, 2):
        replies = grid.ask(requests, round=number)
        sizes.append(wire.serialised_bytes(replies["elm"]))
    rows = {(r.direction, r.kind, r.purpose): r for r in grid.exposure().traffic if r.site == "elm"}
    assert rows["out", "update", "training"].messages == 2
    assert rows["out", "update", "training"].bytes == sum(sizes)
    assert rows["in", "model", "training"].messages == 2
    assert rows["in", "request", "setup"].messages == rows["out", "metrics", "setup"].messages == 1
    assert len(rows) == 4


def test_a_reply_that_is_refused_has_left_the_hospital_and_counts(hosted):
    hosted["cedar"]["bad"] = "other_kind"
    grid = metered(hosted)
    with pytest.raises(SiteFailed, match="cedar"):
        grid.ask(ask_all(grid, "echo", wants="update"))
    assert "raw_records" in grid.exposure().kinds_out()


def test_an_error_text_counts_as_leaving(hosted):
    hosted["cedar"]["bad"] = "leak"
    grid = metered(hosted)
    with pytest.raises(SiteFailed):
        grid.ask(ask_all(grid, "echo"))
    (row,) = [r for r in grid.exposure().traffic if r.kind == "error"]
    assert (row.site, row.direction, row.messages, row.bytes) == ("cedar", "out", 1, len("ValueError"))


def test_two_meters_on_one_grid_count_apart(inline):
    first, second = MeteredGrid(inline), MeteredGrid(inline)
    first.ask(ask_all(first, "echo"))
    assert second.sites
    assert {row.kind for row in second.exposure().traffic} == {"request", "metrics"}


def test_exposure_survives_json(hosted):
    grid = metered(hosted)
    grid.ask(ask_all(grid, "echo"))
    exposure = grid.exposure(out_of_band=["keys, out of band"])
    assert from_json(type(exposure), to_json(exposure)) == exposure
    assert exposure.out_of_band == ("keys, out of band",)


def test_usage_counts_from_the_making_of_the_meter(hosted, inline):
    MeteredGrid(inline).ask({"elm": wire.request(action="count", purpose="setup")})
    usage = MeteredGrid(inline).usage()
    assert set(usage["cpu_seconds"].values()) == {0.0}


def test_the_meter_can_not_be_gone_around(inline):
    grid = MeteredGrid(inline)
    with pytest.raises(NotImplementedError, match="send_and_receive"):
        grid.push_messages([])
    with pytest.raises(NotImplementedError, match="send_and_receive"):
        grid.pull_messages([])
