"""What a budget buys: the noise it takes, and how well an attacker can still do. For teaching."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pettoolkit.errors import BadInput
from pettoolkit.privacy.accounting import REPLACE_ONE, accountant_of, compose, mechanism_for
from pettoolkit.privacy.bounds import AttackBound, attack_bound
from pettoolkit.privacy.events import Mechanism

DEFAULT_DELTA = 1e-5


@dataclass(frozen=True)
class BudgetMeaning:
    """A budget, the mechanism that spends it, and what that means.

    ``noise_in_patients`` is the SD of the noise on a sum, counted in patients whose whole clipped
    gradient points the same way; ``share`` puts it over the patients in the sum.
    """

    epsilon: float
    epsilon_replace_one: float
    delta: float
    patients: int
    mechanism: Mechanism
    accountant: str
    attacker: AttackBound
    noise_in_patients: float
    share: float

    def lines(self) -> tuple[str, ...]:
        """Say it in a few lines, for the terminal."""
        m = self.mechanism
        batch = "the full batch" if m.q == 1 else f"Poisson batches of about {m.q * self.patients:.0f} (q = {m.q:.4g})"
        return (
            f"sigma {m.sigma:.4g} (noise multiplier), calibrated once for {m.steps} rounds on {batch}",
            f"epsilon {self.epsilon:.4g} at delta {self.delta:g} for adding or removing one of {self.patients} "
            f"patients ({self.accountant}); {self.epsilon_replace_one:.4g} for replacing one",
            f"in each round the noise weighs as much as {self.noise_in_patients:.1f} patients' largest contributions, "
            f"{100 * self.share:.2g} % of those in the sum",
            f"best possible attacker ({self.attacker.basis}): finds {100 * self.attacker.tpr_at_1pct_fpr:.1f} % of the "
            f"patients at 1 % false alarms (guessing: 1.0 %), AUC {self.attacker.auc:.3f} (guessing: 0.500)",
        )


def meaning(
    epsilon: float, rounds: int, patients: int, batch: int | None = None, delta: float = DEFAULT_DELTA
) -> BudgetMeaning:
    """Calibrate noise to a budget and say what an attacker can still learn.

    Parameters
    ----------
    epsilon, delta
        Budget of the whole run, for adding or removing one patient.
    rounds
        Noisy sums in the whole run.
    patients
        Public number of patients that train.
    batch
        Expected size of a Poisson-sampled batch; None: all patients in each round.

    Raises
    ------
    BadInput
        With one line per impossible value.
    """
    wrong = []
    if not (math.isfinite(epsilon) and epsilon > 0):
        wrong.append(f"--epsilon: must be greater than 0 (got {epsilon})")
    if rounds < 1:
        wrong.append(f"--rounds: must be 1 or more (got {rounds})")
    if patients < 1:
        wrong.append(f"--patients: must be 1 or more (got {patients})")
    elif not 0 < delta < 1 / patients:
        wrong.append(f"--delta: must be above 0 and below 1/{patients}, one over the patients (got {delta})")
    if batch is not None and not 1 <= batch <= max(patients, 1):
        wrong.append(f"--batch: must lie between 1 and the number of patients (got {batch})")
    if wrong:
        raise BadInput(wrong)
    q = 1.0 if batch is None else batch / patients
    mechanism = mechanism_for(epsilon, delta, rounds, q)
    return BudgetMeaning(
        epsilon=compose([mechanism], delta),
        epsilon_replace_one=compose([mechanism], delta, REPLACE_ONE),
        delta=delta,
        patients=patients,
        mechanism=mechanism,
        accountant=accountant_of([mechanism]),
        attacker=attack_bound([mechanism], delta),
        noise_in_patients=mechanism.sigma,
        share=mechanism.sigma / (q * patients),
    )
