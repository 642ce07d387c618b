"""Outside: the coordinator adds the hospitals' encrypted counts, stage by stage, and gets the rows in the end."""

from __future__ import annotations

from pettoolkit.arms.adding import Additions
from pettoolkit.arms.exchange import Reply, ask
from pettoolkit.arms.private import ask_patients
from pettoolkit.arms.synthetic.scheme import ROUNDS, scheme_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import SiteFailed
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import RunSpec


def rows_of_sums(
    grid: MeteredGrid, spec: RunSpec, contract: Contract
) -> tuple[dict[str, Reply], dict[str, float], dict[str, float]]:
    """Hold the generator's conversation with all hospitals under encryption.

    Returns
    -------
    replies, encryption, cost
        The releasing hospital's answer, and metrics by name.

    Raises
    ------
    SiteFailed
        If hospitals disagree on whether the generator is fitted.
    """
    scheme = scheme_of(spec, contract)
    extra = {"patients": ask_patients(grid, spec)}
    additions = Additions(grid, spec, scheme)
    first, number, done = min(spec.sites), 0, False
    while not done:
        number += 1
        if number > ROUNDS:
            raise SiteFailed(first, f"its generator asks for more than {ROUNDS} stages")
        said = {site: bool(reply.figures["done"]) for site, reply in additions.round(number, extra).items()}
        done = said[first]
        if len(set(said.values())) > 1:
            odd = next(site for site, value in said.items() if value != done)
            raise SiteFailed(odd, "it came to another generator than the other hospitals")
    replies = ask(
        grid, spec, "release", "training", wants="synthetic_records", sites=(first,), number=number, extra=extra
    )
    # nothing is flooded: counts are rounded to a grid far coarser than the error, which leaves none of it
    encryption = additions.parameters({"flooding_sd": 0.0, "max_error": scheme.error})
    return replies, encryption, additions.cost()
