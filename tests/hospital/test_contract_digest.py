"""A hospital compares the run's contract with the one that it has now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pettoolkit.errors import Refused
from tests import small_cohort as small


def test_a_contract_replaced_between_two_messages_is_noticed() -> None:
    spec = replace(small.spec("pooled"), contract_digest=small.CONTRACT.digest())
    site = small.hospitals()["north"]
    site.narrowed(spec)

    site.contract = small.CONTRACT.model_copy(update={"prevalence": 0.3})

    with pytest.raises(Refused, match="is not this hospital's"):
        site.narrowed(spec)


def test_a_replaced_contract_is_narrowed_anew() -> None:
    spec, site = replace(small.spec("pooled"), contract_digest=""), small.hospitals()["north"]
    before = site.narrowed(spec)
    assert site.narrowed(spec) is before

    site.contract = small.CONTRACT.model_copy(
        update={"columns": small.CONTRACT.columns[:1] + small.CONTRACT.columns[2:]}
    )

    assert [c.name for c in site.narrowed(spec).columns] == [
        c.name for c in before.columns if c.name != small.CONTRACT.columns[1].name
    ]
