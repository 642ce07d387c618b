"""Each attack succeeds where it must and fails where it must.

Where nothing can be found, an attack's 95 % interval should begin above 0 in one case of forty. The tests allow as many
alarms as happen by chance once in a thousand runs of the test (binomial), on fixed seeds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from pettoolkit.attacks.protocol import Exact, Group, NotRun, People, TableView
from pettoolkit.attacks.statistics import excess
from pettoolkit.attacks.tables.anchors import Anchor, anchors, null_row
from pettoolkit.attacks.tables.density_ratio import auc, tpr_at
from pettoolkit.attacks.verdict import name_of, verdict
from pettoolkit.synthesis import protocol
from pettoolkit.synthesis.anonymise import anonymise
from pettoolkit.synthesis.protocol import DpBudget
from tests.attacks.hospital_rows import CONTRACT, NAMES, everything, group, one, people, people_rows, view

N = 500
ALARM = 0.025
"""Share of intervals that lie above 0 by chance."""

CEILING = {
    "density_ratio": 0.9,
    "exact_match": 0.99,
    "near_match": 0.9,
    "linkability": 0.5,
    "inference": 0.9,
    "inference_quasi_identifiers": 0.5,
    "singling_out_univariate": 0.9,
    "singling_out_multivariate": 0.8,
    "reidentification": 0.99,
}
"""Attack to the excess that it must reach on the real table."""


@pytest.fixture(scope="module")
def whom() -> People:
    return people(N)


def test_the_real_table_released_as_synthetic_is_found_out(whom: People) -> None:
    found = everything(view("raw", real=whom.members.rows), whom)
    assert {n: f.figure.excess for n, f in found.items() if n in CEILING and f.figure.excess < CEILING[n]} == {}
    assert set(CEILING) <= set(found)


def test_a_generator_that_copies_half_of_its_rows_is_found_out(whom: People) -> None:
    copies = pd.concat([whom.members.rows.iloc[: N // 2], people_rows(N // 2, 77)], ignore_index=True)
    found = everything(view(copying=copies), whom)
    for name in ("exact_match", "near_match", "density_ratio", "inference"):
        assert found[name].figure.excess == pytest.approx(0.5, abs=0.12), name
    for name in ("singling_out_univariate", "linkability"):
        assert found[name].evidence.interval().low > 0.15, name


def fresh(seed: int) -> tuple[TableView, People]:
    return view(fresh=people_rows(N, 1000 + seed)), people(N, 3 * seed + 1)


def private(seed: int) -> tuple[TableView, People]:
    """Marginals of the members at epsilon 0.1."""
    whom = people(N, 3 * seed + 1)
    maker = protocol.create("marginals")
    maker.fit(whom.members.rows, CONTRACT, seed=seed, dp=DpBudget.for_epsilon(0.1, 1e-5, np.random.default_rng(seed)))
    return view(private=maker.sample(N, seed=seed)), whom


def shuffled(seed: int) -> tuple[TableView, People]:
    """Copies of the members, while it is drawn anew who is member, control or the attacker's own."""
    whom = people(N, 3 * seed + 1)
    groups = (whom.members, whom.control, whom.attacker)
    everybody = pd.concat([g.rows for g in groups], ignore_index=True)
    order = np.random.default_rng(seed).permutation(len(everybody))
    cuts = np.split(order, [N, 2 * N])
    drawn = [Group(everybody.iloc[i].reset_index(drop=True), i, np.full(len(i), "a")) for i in cuts]
    return view("raw", real=whom.members.rows), People(*drawn)


@pytest.mark.parametrize("nothing", [fresh, private, shuffled])
def test_where_nobody_is_exposed_alarms_are_as_rare_as_the_intervals_say(nothing: object) -> None:
    intervals = []
    for seed in range(5):
        seen, whom = nothing(seed)  # type: ignore[operator]
        found = everything(seen, whom, attacks=300, seed=seed)
        intervals += [(n, f.evidence.interval()) for n, f in found.items() if not isinstance(f.evidence, Exact)]
    alarms = [name for name, i in intervals if i.low > 0]
    assert len(intervals) >= 40
    assert len(alarms) <= binom.ppf(0.999, len(intervals), ALARM), alarms


def test_the_same_seed_gives_the_same_figures(whom: People) -> None:
    first = {n: (f.figure.success, f.figure.control) for n, f in everything(view(r=people_rows(N, 5)), whom).items()}
    again = {n: (f.figure.success, f.figure.control) for n, f in everything(view(r=people_rows(N, 5)), whom).items()}
    assert first == again


def test_anonymising_on_quasi_identifiers_hides_nobody_from_who_knows_the_rest(whom: People) -> None:
    """The strict reading: k-anonymity of the quasi-identifiers leaves the other columns as they were."""
    table = anonymise(whom.members.rows, CONTRACT, k=5).generalised
    found = everything(view("anonymised", k5=table), whom)
    assert found["inference"].figure.excess > 0.95
    assert found["reidentification"].figure.success == pytest.approx(
        1 / found["reidentification"].figure.details["smallest_group"]
    )
    assert found["reidentification"].figure.success <= 0.2
    assert found["homogeneity"].figure.success < 0.02


def test_k_1_is_homogeneous_for_everybody_and_shared_secrets_expose_whole_groups() -> None:
    rows = people_rows(N, 1).assign(age=np.arange(N) % 80 + 18.0, sex=lambda r: (np.arange(N) // 80 % 2).astype(float))
    rows["ward"] = np.array(["north", "south", "east, new", None], dtype=object)[np.arange(N) // 160]
    alone = People(Group(rows, np.arange(N), np.full(N, "a")), group(N, 2), group(N, 3))
    assert one("homogeneity", view("raw", alone=rows), alone).figure.success == 1.0
    assert one("reidentification", view("raw", alone=rows), alone).figure.details["mean"] == 1.0

    shared = rows.assign(age=lambda r: (r["age"] // 10) * 10 + 8, pulse=lambda r: 50.0 + r["age"], lactate=2.0)
    grouped = People(Group(shared, np.arange(N), np.full(N, "a")), group(N, 2), group(N, 3))
    homogeneous = one("homogeneity", view("anonymised", shared=shared), grouped)
    assert homogeneous.figure.success == 1.0
    assert one("reidentification", view("anonymised", shared=shared), grouped).figure.success <= 0.5


def spread(seed: int, n: int = N) -> pd.DataFrame:
    """Patients whose secret has many equally likely values."""
    return people_rows(n, seed).assign(pulse=np.random.default_rng(seed).uniform(30, 200, n))


def test_two_releases_that_each_hide_a_secret_give_it_away_together(whom: People) -> None:
    """Composition: each release groups the same patients with twice as many others."""
    members = Group(spread(1), whom.members.patient, whom.members.site)
    control = Group(spread(2), whom.control.patient, whom.control.site)
    exposed = People(members, control, whom.attacker)
    releases = {
        name: anonymise(pd.concat([members.rows, spread(seed, 2 * N)], ignore_index=True), CONTRACT, k=2).generalised
        for name, seed in (("march", 50), ("april", 51))
    }
    alone = one("homogeneity", view("anonymised", march=releases["march"]), exposed).figure.details
    together = one("intersection", view("anonymised", **releases), exposed).figure.details
    assert alone["success/pulse"] < 0.05
    assert together["success/pulse"] > 0.25
    assert together["control/pulse"] < 0.1

    elsewhere = spread(60).assign(age=lambda r: np.where(r["age"] == 30, 31.0, 30.0), sex=1.0, ward=None)
    three = one("intersection", view("anonymised", **releases, other=elsewhere), exposed).figure.details
    assert three["success/pulse"] == pytest.approx(together["success/pulse"], abs=0.02)  # rules nothing out


def test_releases_of_other_patients_have_nothing_in_common(whom: People) -> None:
    releases = {f"r{seed}": anonymise(people_rows(N, 60 + seed), CONTRACT, k=3).generalised for seed in range(2)}
    assert one("intersection", view("anonymised", **releases), whom).evidence.interval().low <= 0


def test_suppressed_rows_are_counted_and_protect_nobody_else(whom: People) -> None:
    table = anonymise(whom.members.rows, CONTRACT, k=3).generalised.astype("object")
    table.loc[:9, ["age", "sex", "ward"]] = "*"
    found = one("reidentification", view("anonymised", k3=table.iloc[:-5]), whom).figure
    assert found.details["suppressed"] == 15
    assert found.patients == N - 15


def test_middles_of_ranges_are_matched_to_the_nearest_group(whom: People) -> None:
    made = anonymise(whom.members.rows, CONTRACT, k=3)
    text, middle = (one("group_inference", view("anonymised", t=t), whom).figure for t in (made.generalised, made.rows))
    assert middle.excess > 0.5 * text.excess > 0.05
    assert one("reidentification", view("anonymised", t=made.rows), whom).figure.success <= 1 / 3


def test_group_inference_tells_members_from_outsiders_and_from_a_holdout(whom: People) -> None:
    table = anonymise(whom.members.rows, CONTRACT, k=3).generalised
    details = one("group_inference", view("anonymised", k3=table), whom).figure.details
    assert details["group/2-4"] > details["outside/2-4"] + 0.1
    assert details["group/2-4"] > details["holdout/2-4"] + 0.1


def test_one_release_has_no_intersection_and_synthetic_rows_no_groups(whom: People) -> None:
    rows = people_rows(N, 9)
    with pytest.raises(NotRun, match="one release"):
        one("intersection", view(r=rows), whom)
    with pytest.raises(NotRun, match="own record"):
        one("reidentification", view(r=rows), whom)


def test_too_few_patients_and_missing_roles_are_reasons(whom: People) -> None:
    with pytest.raises(NotRun, match="too few"):
        one("exact_match", view(r=people_rows(9, 3)), People(group(9, 1), group(9, 2), group(9, 3)))
    columns = tuple(c.model_copy(update={"quasi_identifier": False}) for c in CONTRACT.columns)
    bare = TableView(CONTRACT.model_copy(update={"columns": columns}), releases={"r": people_rows(N, 9)})
    with pytest.raises(NotRun, match="quasi-identifier"):
        one("group_inference", bare, whom)


def test_a_release_with_fewer_columns_is_attacked_through_those(whom: People) -> None:
    found = everything(view("raw", some=whom.members.rows[["pulse", "age", "sex"]]), whom)
    assert found["inference"].figure.details.keys() == {"success/pulse", "control/pulse"}


def test_several_rows_of_a_patient_count_as_one(whom: People) -> None:
    rows = pd.concat([whom.members.rows] * 2, ignore_index=True)
    twice = People(Group(rows, np.tile(whom.members.patient, 2), np.full(2 * N, "a")), whom.control, whom.attacker)
    assert one("exact_match", view("raw", r=rows), twice).figure.patients <= N


def test_singling_out_among_a_part_of_the_members_is_scaled_or_left_undecided(whom: People) -> None:
    few = People(whom.members, group(250, 2), group(50, 3))
    found = one("singling_out_univariate", view("raw", real=whom.members.rows), few)
    assert found.figure.details["reach"] == pytest.approx(0.6)
    assert found.figure.excess == pytest.approx(1.0, abs=0.1)
    hardly = People(whom.members, group(20, 2), group(20, 3))
    interval = one("singling_out_univariate", view("raw", real=whom.members.rows), hardly).evidence.interval()
    assert (interval.low, interval.high) == (-1.0, 1.0)


def test_an_attack_that_is_mostly_noise_is_not_the_strongest(whom: People) -> None:
    few = People(whom.members, group(100, 2), group(50, 3))
    found = list(everything(view(r=people_rows(N, 9)), few).values())
    judged = verdict(found, view="release")
    (chosen,) = {round(judged.figure, 6)} & {  # type: ignore[arg-type]
        round(excess(half.success, half.control), 6)
        for half in (f.evidence.half(1) for f in found if name_of(f.figure) not in judged.left_out)
    }
    assert abs(chosen) < 0.2
    assert any("singling_out" in name for name in judged.left_out)


def test_floor_and_ceilings_come_in_order_and_the_null_row_exposes_nobody(whom: People) -> None:
    made = list(anchors(view(r=people_rows(N, 9)), whom, seed=0))
    assert [a.name if isinstance(a, Anchor) else a for a in made] == [
        "fresh patients", "k = 10", "k = 5", "k = 3", "real table"
    ]  # fmt: skip
    floor = null_row(view(r=people_rows(N, 9)), whom, seed=0)
    posing = floor.view.releases["fresh patients"]
    assert list(posing) == NAMES
    own = set(floor.people.attacker.patient)
    assert len(posing) + len(own) == len(whom.attacker)
    assert floor.people.members is whom.members
    assert not pd.concat([posing, floor.people.attacker.rows]).duplicated().any()


def test_an_anonymised_anchor_that_can_not_be_made_says_why() -> None:
    columns = tuple(c.model_copy(update={"quasi_identifier": False}) for c in CONTRACT.columns)
    bare = TableView(CONTRACT.model_copy(update={"columns": columns}), releases={"r": people_rows(N, 9)})
    left_out = [a for a in anchors(bare, people(100), seed=0) if isinstance(a, tuple)]
    assert [name for name, _ in left_out] == ["k = 10", "k = 5", "k = 3"]
    assert all("quasi-identifier" in why for _, why in left_out)


def test_auc_and_true_positive_rate_are_those_of_slow_counts() -> None:
    rng = np.random.default_rng(0)
    members, control = rng.integers(0, 9, 40) / 1.0, rng.integers(0, 7, 60) / 1.0
    slow = np.mean([[1.0 if m > c else 0.5 if m == c else 0.0 for c in control] for m in members])
    assert auc(members, control) == pytest.approx(slow)
    threshold = min(t for t in [-1.0, *control] if np.mean(control > t) <= 0.05)
    assert tpr_at(members, control, 0.05) == pytest.approx(np.mean(members > threshold))
