"""The door: a payload must fit its kind, and what the owner did not list stays inside."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import KINDS, PAYLOAD_OF, Arrays, Ciphertexts, Envelope, Figures, Scores, Table
from pettoolkit.hospital.policy import Policy
from pettoolkit.records import DpSpec
from tests import small_cohort as small

PAYLOADS = {
    Table: Table(pd.DataFrame({"age": [1.0], "lab": [2.0]})),
    Arrays: Arrays({"w": np.zeros(2)}, 50),
    Ciphertexts: Ciphertexts((b"x",), 50),
    Figures: Figures({"loss": 1.0}),
    Scores: Scores({"y": np.zeros(2)}),
}


def envelope(kind: str, purpose: str = "training") -> Envelope:
    return Envelope(kind, purpose, PAYLOADS[PAYLOAD_OF[kind]])


def test_a_table_cannot_leave_labelled_as_metrics() -> None:
    with pytest.raises(ValueError, match="kind metrics takes a Figures, not a Table"):
        Envelope("metrics", "training", PAYLOADS[Table])


def test_objects_never_leave_inside_an_array() -> None:
    with pytest.raises(ValueError, match="Python objects"):
        Envelope("update", "training", Arrays({"w": np.array([{}], dtype=object)}, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_not_listed_is_refused_and_one_that_is_passes(kind: str) -> None:
    others = tuple(k for k in KINDS if k != kind)

    with pytest.raises(Refused, match=f"hospital north: kind {kind} is not in its policy"):
        Policy(kinds=others, minimum_cohort=1).release("north", envelope(kind))
    assert Policy(kinds=(kind,), minimum_cohort=1).release("north", envelope(kind)) is not None


def test_a_deployed_hospital_allows_nothing_until_its_owner_lists_it() -> None:
    policy = Policy()

    with pytest.raises(Refused, match="arm pooled is not in its policy"):
        policy.admit("north", "pooled", small.spec("pooled"))
    with pytest.raises(Refused):
        policy.release("north", envelope("metrics"))


def test_single_patients_are_not_scored_for_the_judge_unless_granted() -> None:
    with pytest.raises(Refused, match="only aggregated metrics"):
        Policy(kinds=KINDS).release("north", envelope("predictions", "evaluation"))
    assert Policy.simulated().release("north", envelope("predictions", "evaluation"))


def test_columns_that_are_not_listed_stay_inside() -> None:
    with pytest.raises(Refused, match="columns not in its policy: lab"):
        Policy(kinds=KINDS, columns=("age",)).release("north", envelope("raw_records"))


@pytest.mark.parametrize(
    "few",
    [
        Envelope("update", "training", Arrays({"w": np.zeros(1)}, 9)),
        Envelope("raw_records", "training", Table(pd.DataFrame({"age": [1.0] * 9}))),
    ],
)
def test_too_small_a_cohort_stays_inside(few: Envelope) -> None:
    with pytest.raises(Refused, match="minimum cohort of 10"):
        Policy(kinds=KINDS).release("north", few)


def test_records_never_leave_as_set_up() -> None:
    with pytest.raises(ValueError, match="never with raw_records"):
        envelope("raw_records", "setup")


@pytest.mark.parametrize(
    ("change", "arm", "said"),
    [
        ({"sites": ("south",)}, "federated", "takes no part"),
        ({"patients_per_site": 60}, "federated", "sub_samples"),
        ({"seed": 7}, "federated", "seed 7 is not in its policy"),
        ({"sites": ("north",)}, "encrypted_aggregation", "a sum over 1 hospitals hides nothing"),
        ({"sites": ("north", "north", "north")}, "encrypted_aggregation", "a sum over 1 hospitals"),
        (
            {"sites": ("east", "north"), "options": {"allow_two": True}},
            "encrypted_aggregation",
            "a sum over 2 hospitals",
        ),
    ],
)
def test_a_deployed_hospital_refuses_what_would_single_out_a_patient_or_itself(
    change: dict[str, object], arm: str, said: str
) -> None:
    spec = dataclasses.replace(small.spec(arm), **change)

    with pytest.raises(Refused, match=said):
        Policy(kinds=KINDS, arms=(arm,)).admit("north", arm, spec)
    Policy(kinds=KINDS, arms=(arm,)).admit("north", arm, small.spec(arm))


def test_a_lifetime_budget_allows_no_run_without_differential_privacy() -> None:
    with pytest.raises(Refused, match="differential privacy for patients only"):
        Policy(kinds=KINDS, arms=("*",), lifetime_epsilon=3).admit("north", "federated", small.spec("federated"))


CAPPED = Policy(kinds=KINDS, arms=("*",), lifetime_epsilon=3, evaluation_rows=True)


def test_a_lifetime_budget_allows_no_run_whose_guarantee_is_not_for_patients() -> None:
    downstream = small.spec("synthetic", dp=DpSpec(1.0, noise="central", target="downstream"))

    with pytest.raises(Refused, match="differential privacy for patients only"):
        CAPPED.admit("north", "synthetic", downstream)


def test_a_lifetime_budget_allows_no_larger_delta_than_it_is_counted_at() -> None:
    with pytest.raises(Refused, match=r"dp\.delta 0\.001 is above 1e-05.*lifetime_delta"):
        CAPPED.admit("north", "federated", small.spec("federated", dp=DpSpec(1.0, 1e-3)))
    CAPPED.admit("north", "federated", small.spec("federated", dp=DpSpec(1.0, 1e-6)))
    looser = CAPPED.model_copy(update={"lifetime_delta": 1e-3})
    looser.admit("north", "federated", small.spec("federated", dp=DpSpec(1.0, 1e-3)))


@pytest.mark.parametrize(("kind", "purpose"), [("raw_records", "training"), ("anonymised_records", "training")])
def test_a_lifetime_budget_lets_no_rows_of_patients_out(kind: str, purpose: str) -> None:
    with pytest.raises(Refused, match="lets no rows of patients out"):
        CAPPED.release("north", envelope(kind, purpose))
    with pytest.raises(Refused, match="lets no rows of patients out"):
        CAPPED.release("north", envelope("raw_records", "audit"))
    assert CAPPED.release("north", envelope("update"))
