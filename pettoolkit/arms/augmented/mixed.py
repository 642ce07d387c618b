"""Inside: differential privacy for a patient who is in two things, the generator's rows and the hospital's own model.

The budgets compose. The run's budget is one number mu (what Gaussian noise may spend of epsilon and delta);
the generator takes the share :data:`GENERATOR_SHARE` of mu^2 and the training the rest, since Gaussian mechanisms
compose to ``mu^2 = mu_1^2 + mu_2^2`` (Dong, Roth and Su 2019, arXiv:1905.02383, Corollary 3.3). Both are charged to one
ledger, which would refuse more than the run's epsilon. The *others'* rows carry their own hospitals' guarantee
and cost this hospital's patients nothing, so their gradients get no noise.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pettoolkit.arms.common import start
from pettoolkit.arms.generating import Made, charged, one_row_each
from pettoolkit.arms.private import budget_of
from pettoolkit.hospital.accounts import ledger_of, noise_of
from pettoolkit.hospital.site import Site
from pettoolkit.models.dense import Params
from pettoolkit.models.training import Rows
from pettoolkit.privacy.accounting import gaussian_epsilon, gaussian_mu
from pettoolkit.privacy.events import Mechanism, gaussian
from pettoolkit.privacy.gradients import engine_for
from pettoolkit.privacy.ledger import Budget, Ledger
from pettoolkit.privacy.noise import Draw
from pettoolkit.privacy.optimiser import PrivateRows, train_private
from pettoolkit.privacy.settings import settings_for
from pettoolkit.records import RunSpec

GENERATOR_SHARE = 0.5
"""Of mu^2; see docs/synthetic.md."""


@dataclass(frozen=True)
class MixedRows(PrivateRows):
    """Own patients, whose sum gets noise, and ``weight`` times as light rows of others, whose sum gets none."""

    others: Rows | None = None
    weight: int = 1

    def noisy_sum(self, params: Params, mechanism: Mechanism, draw: Draw) -> Params:
        """See :meth:`PrivateRows.noisy_sum`: ``weight`` times the own noisy sum, plus the others' clipped alike."""
        own = super().noisy_sum(params, mechanism, draw)
        if self.others is None:
            return own
        made = self.engine.clipped_sum(params, self.others.x, self.others.y, mechanism.sensitivity, None).gradient
        return {name: self.weight * own[name] + made[name] for name in own}


def private_rows(site: Site, spec: RunSpec) -> Made:
    """This hospital's synthetic rows for the others, at the generator's share of the budget."""
    return Made.from_bytes(charged(site, spec, spec.run_id, account_of(site, spec), rho_of(spec)))


def rho_of(spec: RunSpec) -> float:
    """What the generator may spend: rho = mu^2 / 2."""
    dp = budget_of(spec)
    return GENERATOR_SHARE * gaussian_mu(dp.epsilon, dp.delta) ** 2 / 2


def account_of(site: Site, spec: RunSpec) -> Ledger:
    """The one ledger of generator and training."""
    dp = budget_of(spec)
    return ledger_of(site, spec.run_id, Budget(dp.epsilon, dp.delta))


def train(site: Site, spec: RunSpec, others: Rows) -> tuple[Params, int]:
    """Train on own patients and received rows at the training's share; gives the model and the public patient count.

    Raises
    ------
    Refused
        If the ledger can't afford it, or rows are not patients.
    """
    dp, patients = budget_of(spec), one_row_each(site, spec)
    net, initial = start(spec, site.narrowed(spec))
    mu = math.sqrt(1 - GENERATOR_SHARE) * gaussian_mu(dp.epsilon, dp.delta)
    weight = int(spec.options["own_weight"])
    # what the noise is to the mean gradient, it would be to a hospital alone with so many patients
    alike = patients + len(others) / weight
    training = settings_for(gaussian_epsilon(mu, dp.delta), "alone", spec.model, 1, round(alike))
    mechanism = gaussian(math.sqrt(training.steps) / mu, training.steps, training.clip)
    own = site.part(spec, "train")
    noise = noise_of(site, spec.seed, dp.noise)
    rows = MixedRows(engine_for(net, dp.gradients), own.x, own.y, noise, dp.noise, None, others, weight)
    params = train_private(
        rows,
        account_of(site, spec),
        initial,
        mechanism,
        training,
        weight * patients + len(others),
        purpose=f"training beside {_digest(others.x)}",
    )
    return params, patients


def _digest(x: Tensor) -> str:
    """Names the received rows: the answer to other rows is another answer, charged anew."""
    return hashlib.blake2b(torch.as_tensor(x).contiguous().numpy().tobytes(), digest_size=8).hexdigest()
