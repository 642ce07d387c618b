"""The noisy answers of `marginals` on two neighbouring tables tell no more than its claim allows, and would if it lied.

The attacker knows both tables and sees every noisy answer: the most that anybody can see, since rows are drawn from
the answers. By Neyman and Pearson the best test sums up ``(answer - exact) (difference) / sigma^2`` over all questions.
Its true positives at a fixed share of false positives may not exceed what the claimed Gaussian mechanism allows, nor
``e^epsilon`` times the false positives plus delta.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import beta, norm
from toy_table import CONTRACT, people

from pettoolkit.privacy.accounting import gaussian_epsilon
from pettoolkit.synthesis import marginals, vae
from pettoolkit.synthesis.conversation import SCREENING, TABLES
from pettoolkit.synthesis.protocol import DpBudget, one_mechanism
from pettoolkit.synthesis.rows import classes

FALSE_POSITIVES = 0.1
ALARM = 1e-4
"""How often a generator that keeps its word is accused."""

DELTA = 1e-5
MANY = 10**7
"""Public patients from which pairs are asked for at any budget."""


class Quieter(np.random.Generator):
    """Half of the noise that was asked for."""

    def normal(self, loc=0.0, scale=1.0, size=None):
        return super().normal(loc, scale / 2, size)


def statistic(rows, pair, rho, patients, noise, monkeypatch):
    """Fit on ``rows`` once: the likelihood ratio of the noisy answers, table 1 of ``pair`` against table 0."""
    generator = marginals.Marginals()
    cells = marginals.cells_of(CONTRACT, marginals.DP_BINS)
    coded = [(marginals.codes_of(cells, table), classes(table, CONTRACT)) for table in pair]
    whole, found, asked = marginals.conversation, [], set()

    def overheard(cells, n_classes, n, events):
        # both tables are asked what the public number of patients suggests
        talk = whole(cells, n_classes, patients if patients == MANY else len(pair[0]), events)
        stage = next(talk)
        while True:
            answers = yield stage
            for question, answer in zip(stage, answers, strict=True):
                without, with_one = (question.exact(*codes) for codes in coded)
                found.append((answer - without) @ (with_one - without) / question.event.sigma**2)
                asked.add(question.event.query)
            try:
                stage = talk.send(answers)
            except StopIteration as end:
                return end.value

    with monkeypatch.context() as patch:
        patch.setattr(marginals, "conversation", overheard)
        generator.fit(rows, CONTRACT, seed=0, dp=DpBudget(rho, noise, patients))
    return sum(found), one_mechanism(generator.events), asked


def powers(make_noise, rho, patients, runs, monkeypatch):
    """True positives (of ``runs``) at the fixed share of false positives, and the claimed mechanism."""
    rows = people(120)
    more = pd.concat([rows, people(80, seed=9).iloc[[2]]], ignore_index=True)  # a septic patient: of the rarer class
    scores = np.empty((2, runs))
    for world, table in enumerate((rows, more)):
        for i in range(runs):
            noise = make_noise(np.random.PCG64([world, i]))
            scores[world, i], claimed, asked = statistic(table, (rows, more), rho, patients, noise, monkeypatch)
    # the limit comes from the claim, not from the runs: without the patient the statistic is normal, mean 0, SD mu
    mu = 1 / claimed.sigma
    return scores, mu, asked


def least(hits, runs):
    """Lower confidence limit of a share (Clopper and Pearson), wrong in :data:`ALARM` of cases."""
    return beta.ppf(ALARM, hits, runs - hits + 1) if hits else 0.0


@pytest.mark.parametrize(("patients", "rho"), [(None, 0.5), (MANY, 0.5)], ids=["histograms", "pairs"])
def test_noisy_answers_on_neighbours_stay_within_the_claim_and_halved_noise_does_not(patients, rho, monkeypatch):
    runs = 300
    for make_noise, honest in ((np.random.Generator, True), (Quieter, False)):
        scores, mu, asked = powers(make_noise, rho, patients, runs, monkeypatch)
        assert ({SCREENING, TABLES} <= asked) == (patients == MANY)
        limit = np.quantile(scores[0], 1 - FALSE_POSITIVES)
        false, true = (int((s > limit).sum()) for s in scores)
        false_at_most = beta.ppf(1 - ALARM, false + 1, runs - false)
        allowed = norm.cdf(norm.ppf(false_at_most) + mu)
        epsilon = gaussian_epsilon(mu, DELTA)
        # both limits are wrong in ALARM of cases each
        found = least(true, runs)
        assert (found <= allowed) == honest, (found, allowed)
        if honest:
            assert found <= math.exp(epsilon) * false_at_most + DELTA
            # and the claim is no idle one: the attacker gets most of what it allows
            assert true / runs > norm.cdf(norm.ppf(FALSE_POSITIVES) + mu) - 0.15


def test_one_patient_moves_each_step_of_the_vae_by_its_sensitivity_whatever_the_seed(monkeypatch):
    """The other patients' random codes are the same with and without the patient, and nobody else knows them."""
    rows = people(50)
    more = pd.concat([rows, people(80, seed=9).iloc[[2]]], ignore_index=True)
    whole, clip = vae.clipped_sum, vae.VaeSettings().clip

    def sums(table, noise_seed):
        seen = []

        def record(network, losses, bound):
            made = whole(network, losses, bound)
            seen.append(torch.cat([v.ravel() for v in made.values()]).double())
            return made

        with monkeypatch.context() as patch:
            patch.setattr(vae, "clipped_sum", record)
            patch.setattr(torch.optim.Adam, "step", lambda self: None)  # both are asked at the same parameters
            generator = vae.DpVae(vae.VaeSettings(hidden=16, latent=3, steps=5))
            generator.fit(table, CONTRACT, seed=0, dp=DpBudget(1.0, np.random.default_rng(noise_seed)))
        return seen

    for a, b in zip(sums(rows, 4), sums(more, 4), strict=True):
        assert 0 < float((a - b).norm()) <= clip * (1 + 1e-5)
    assert not torch.equal(sums(rows, 4)[0], sums(rows, 5)[0])  # codes come from the private noise, not from the seed
