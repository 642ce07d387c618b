"""Cells that become one line."""

from __future__ import annotations

import pytest
from finished import done, private, spec

from pettoolkit.records import DpSpec, Guarantee, NotMeasured, PrivacyStatement
from pettoolkit.report.lines import lines

UNDEFINED = NotMeasured("undefined: one class at this site")


def test_seeds_are_put_together_and_arms_are_not() -> None:
    cells = [done(spec(arm, seed=seed), {"a": 0.7, "b": 0.6}) for arm in ("federated", "pooled") for seed in (0, 1)]
    assert [(line.arm, len(line.results)) for line in lines(cells)] == [("federated fedavg", 2), ("pooled", 2)]


def test_the_worst_hospital_is_that_of_the_means_over_seeds() -> None:
    first = done(spec(seed=0), {"a": 0.50, "b": 0.60})
    second = done(spec(seed=1), {"a": 0.80, "b": 0.62})
    (line,) = lines([first, second])
    assert line.worst() == ("b", pytest.approx(0.61))


def test_a_hospital_without_auroc_is_not_the_worst_and_not_a_half() -> None:
    (line,) = lines([done(spec(), {"a": 0.7, "b": UNDEFINED})])
    assert line.worst() == ("a", 0.7)
    assert line.site_auroc()["b"] == UNDEFINED
    (nowhere,) = lines([done(spec(), {"a": UNDEFINED, "b": UNDEFINED})])
    assert isinstance(nowhere.worst(), NotMeasured)


def test_an_unseen_hospital_is_not_the_worst_of_those_that_trained() -> None:
    (line,) = lines([done(spec(unseen=("c",)), {"a": 0.7, "b": 0.6, "c": 0.5})])
    assert line.worst() == ("b", 0.6)


def test_bytes_are_those_of_the_protocol_per_hospital() -> None:
    (line,) = lines([done(spec(), {"a": 0.7}, sent=1000)])
    assert line.bytes_out() == 1000
    assert line.kinds_out() == ("update",)


def test_hospitals_left_out_in_turn_are_one_line_and_fixed_ones_are_not() -> None:
    turns = [done(spec(sites=s, unseen=(u,)), {u: 0.6}) for s, u in ((("a", "b"), "c"), (("b", "c"), "a"))]
    (line,) = lines(turns)
    assert line.unseen == "each of 2"
    fixed = [
        done(spec(sites=s, unseen=u), {u[0]: 0.6}) for s, u in ((("a", "b"), ("c", "d")), (("c", "d"), ("a", "b")))
    ]
    assert [one.unseen for one in lines(fixed)] == ["c, d", "a, b"]


def test_which_hospitals_a_seed_draws_does_not_part_seeds_but_their_number_does() -> None:
    cells = [done(spec(seed=i, sites=s), {"a": 0.7}) for i, s in enumerate([("a",), ("b",), ("a", "b")])]
    assert [len(line.results) for line in lines(cells)] == [2, 1]


def test_a_guarantee_holds_for_a_line_if_all_its_cells_have_one() -> None:
    with_dp = done(spec(seed=0), {"a": 0.7}, privacy=private(1.0))
    assert lines([with_dp])[0].guarantee().startswith("epsilon 1 (")
    assert lines([with_dp, done(spec(seed=1), {"a": 0.7})])[0].guarantee() == "none"


def test_dp_for_synthetic_rows_alone_is_no_guarantee() -> None:
    downstream = spec("synthetic", dp=DpSpec(3.0, target="downstream"))
    assert lines([done(downstream, {"a": 0.7})])[0].guarantee() == "none (downstream epsilon 3)"


def test_noise_that_is_not_shared_has_no_collusion_figure() -> None:
    alone = PrivacyStatement(Guarantee(3.0, 6.71, 1e-5, "PLD", "Gaussian"), "nobody", "nothing", "no")
    assert lines([done(spec(), {"a": 0.7}, privacy=alone)])[0].guarantee() == "epsilon 3 (replace-one 6.71)"
