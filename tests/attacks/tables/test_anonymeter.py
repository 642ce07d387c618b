"""What goes through anonymeter gives anonymeter's own counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pettoolkit.attacks.tables.common import the_table
from pettoolkit.attacks.tables.inference import guessed
from pettoolkit.attacks.tables.linkability import halves, linked
from pettoolkit.attacks.tables.singling_out import frame_of, predicates, singled_out
from tests.attacks.hospital_rows import people, people_rows, view


@pytest.mark.parametrize(("mode", "wanted"), [("univariate", 5000), ("multivariate", 200)])
def test_singling_out_counts_are_those_of_its_evaluator(mode: str, wanted: int) -> None:
    from anonymeter.evaluators import SinglingOutEvaluator

    whom = people(300)
    released = people_rows(300, 9).assign(ward=whom.members.rows["ward"], pulse=whom.members.rows["pulse"])
    table = the_table(view(r=released))
    frames = [
        frame_of(values, table)
        for values in (
            table.place(whom.members),
            np.column_stack([s.middle() for s in table.spans]),
            table.place(whom.control),
        )
    ]
    found = predicates(frames[1], mode, wanted, seed=3)
    evaluator = SinglingOutEvaluator(
        ori=frames[0].to_pandas(), syn=frames[1].to_pandas(), control=frames[2].to_pandas(), n_attacks=wanted, seed=3,
        max_attempts=4000,
    ).evaluate(mode)  # fmt: skip
    mine = [int((singled_out(frame, found) >= 0).sum()) for frame in (frames[0], frames[2])]
    assert mine == [evaluator.results().n_success, evaluator.results().n_control]
    assert len(set(singled_out(frames[1], found).tolist()) - {-1}) > 50


def test_each_predicate_fits_the_row_that_is_named() -> None:
    table = the_table(view(r=people_rows(200, 9)))
    frame = frame_of(np.column_stack([s.middle() for s in table.spans]), table)
    found = predicates(frame, "multivariate", 50, seed=0)
    for query, row in zip(found, singled_out(frame, found), strict=True):
        fits = frame.with_row_index("row").filter(query)
        assert fits["row"].to_list() == [row]


@pytest.mark.slow  # numba compiles anonymeter's search
def test_linkability_and_inference_counts_are_those_of_its_evaluators() -> None:
    from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator

    names = ["pulse", "delay", "age", "sex"]
    whom = people(200)
    released = pd.concat([whom.members.rows.iloc[:100], people_rows(100, 9)])[names].reset_index(drop=True)
    table = the_table(view(r=released))
    plain = [
        pd.DataFrame(np.column_stack([s.middle() for s in table.spans]), columns=names),
        pd.DataFrame(table.place(whom.members), columns=names),
    ]
    ends = pd.DataFrame([[0.0] * 4, [1.0] * 4], columns=names)  # anonymeter scales by the range that it sees
    syn = pd.concat([plain[0], ends], ignore_index=True)
    first, second = ([names[j] for j in half] for half in halves(table))
    theirs = LinkabilityEvaluator(plain[1], syn, (first, second), n_attacks=200).evaluate(n_jobs=1).results().n_success
    assert abs(int(linked(table, table.place(whom.members), *halves(table)).sum()) - theirs) <= 2

    right = guessed(table, table.place(whom.members), names.index("age"), [0, 1, 3])
    texts = [f.assign(age=np.minimum((f["age"] * 32).astype(int), 31).astype(str)) for f in (plain[1], syn)]
    infer = InferenceEvaluator(texts[0], texts[1], ["pulse", "delay", "sex"], "age", n_attacks=200)
    assert abs(int((right == 1).sum()) - infer.evaluate(n_jobs=1).results().n_success) <= 2
