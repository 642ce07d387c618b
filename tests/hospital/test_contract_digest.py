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
