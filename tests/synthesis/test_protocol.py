import math
import subprocess
import sys

import numpy as np
import pytest
from toy_table import CONTRACT

from pettoolkit.errors import BadInput
from pettoolkit.privacy.accounting import ADD_REMOVE, REPLACE_ONE, compose
from pettoolkit.synthesis.protocol import WITH_DP, DpBudget, Generator, GuaranteeEvent, create, names, total_rho


def test_every_registered_name_makes_a_generator():
    assert [isinstance(create(name), Generator) for name in names()] == [True] * len(names())


def test_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(BadInput, match="did you mean marginals"):
        create("marginal")


def test_unknown_option_is_one_clear_line():
    with pytest.raises(BadInput, match=r"^generator marginals: .*'bin'"):
        create("marginals", bin=3)


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_must_be_positive_and_finite(rho):
    with pytest.raises(BadInput, match="rho must be"):
        DpBudget(rho, np.random.default_rng(0))


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0, 10.0])
def test_the_whole_plan_spends_exactly_the_epsilon_asked_for(epsilon):
    budget = DpBudget.for_epsilon(epsilon, 1e-5, np.random.default_rng(0))

    events = create("marginals").plan(CONTRACT, budget)

    assert total_rho(events) == pytest.approx(budget.rho, rel=1e-12)
    spent = compose([e.mechanism() for e in events], 1e-5, ADD_REMOVE)
    assert epsilon * (1 - 1e-6) <= spent <= epsilon * (1 + 1e-9)


def test_replacing_a_patient_costs_as_much_as_sqrt_2_times_the_sensitivity():
    event = GuaranteeEvent.gaussian("histogram", 0.02)
    louder = GuaranteeEvent("histogram", math.sqrt(2), event.sigma, 0.04)

    assert compose([event.mechanism()], 1e-5, REPLACE_ONE) == pytest.approx(compose([louder.mechanism()], 1e-5))


def test_only_the_generator_that_needs_sdv_imports_it():
    program = (
        "import sys; from pettoolkit.synthesis.protocol import create; create('marginals');"
        "assert 'sdv' not in sys.modules; create('gaussian_copula'); assert 'sdv' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_generators_with_dp_say_so_in_the_register():
    budget = DpBudget(0.1, np.random.default_rng(0))
    assert all(total_rho(create(name).plan(CONTRACT, budget)) == pytest.approx(0.1) for name in WITH_DP)
