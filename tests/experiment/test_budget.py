"""What ``pettoolkit budget`` says."""

from __future__ import annotations

import json
import math

import pytest

from pettoolkit import cli
from pettoolkit.errors import BadInput
from pettoolkit.experiment.budget import explain


def test_the_figures_are_those_of_the_closed_form() -> None:
    found = explain(1.0, rounds=50, patients=1600).as_json()

    assert found["sigma"] == pytest.approx(26.38, abs=0.01)
    assert found["epsilon"] == pytest.approx(1.0, abs=1e-6)
    assert found["epsilon_replace_one"] == pytest.approx(2.155, abs=1e-3)
    assert found["attacker"]["tpr_at_1pct_fpr"] == pytest.approx(0.0198, abs=1e-4)
    assert found["attacker"]["auc"] == pytest.approx(0.575, abs=1e-3)
    assert "epsilon_if_sites_collude" not in found


def test_batches_take_less_noise_and_the_bound_is_their_own() -> None:
    found = explain(1.0, rounds=50, patients=1600, batch=64).as_json()

    assert found["sigma"] < 2
    assert found["epsilon"] == pytest.approx(1.0, abs=0.01)
    assert found["attacker"]["basis"] == "privacy profile of the mechanism, PLD"
    assert found["attacker"]["tpr_at_1pct_fpr"] == pytest.approx(0.0187, abs=5e-4)  # full batch: .0198


def test_local_noise_grows_with_the_hospitals_and_shared_noise_does_not() -> None:
    alone = explain(1.0, rounds=50, patients=16_000)
    local = explain(1.0, rounds=50, patients=16_000, sites=5)
    shared = explain(1.0, rounds=50, patients=16_000, sites=5, noise="shared")

    assert local.sum_sigma == pytest.approx(math.sqrt(5) * alone.sum_sigma)
    assert shared.sum_sigma == pytest.approx(alone.sum_sigma)
    assert shared.site_sigma == pytest.approx(alone.sum_sigma / math.sqrt(5))


def test_shared_noise_comes_with_what_is_left_under_collusion() -> None:
    """Figures for five hospitals and epsilon 1 as in the literature's mu -> mu sqrt(h)."""
    shared = explain(1.0, rounds=50, patients=16_000, sites=5, noise="shared")

    assert list(shared.if_sites_collude.values()) == pytest.approx([1.13, 1.33, 1.66, 2.44], abs=0.01)
    assert shared.if_coordinator_and_site_collude == pytest.approx(2.44, abs=0.01)
    assert shared.lines()[-2] == (
        "that epsilon is against outsiders and the coordinator; against one curious hospital, which knows its own "
        "noise, it is 1.13; 1.32 against 2, 1.66 against 3, 2.44 against 4 hospitals together"
    )
    assert shared.lines()[-1] == "epsilon is 2.44 if the coordinator and any one hospital collude"


def test_all_impossible_values_are_named_at_once() -> None:
    with pytest.raises(BadInput) as found:
        explain(-1.0, rounds=0, patients=1_000_000, sites=2, noise="shared")

    starts = [line.split(":")[0] for line in found.value.lines]
    assert starts == ["--epsilon", "--rounds", "--delta", "--sites"]


def test_the_command_prints_lines_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["budget", "--epsilon", "1", "--rounds", "50", "--patients", "1600"]

    assert cli.main(asked) == 0
    text = capsys.readouterr().out
    assert cli.main([*asked, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)

    assert text.startswith("sigma 26.38")
    assert "finds 2.0 % of the patients at 1 % false alarms" in text
    assert data["sigma"] == pytest.approx(26.38, abs=0.01)


def test_the_command_refuses_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["budget", "--epsilon", "1", "--rounds", "50", "--patients", "1600", "--noise", "shred"]) == 2
    assert capsys.readouterr().err == "--noise: must be local or shared (got shred)\n"
