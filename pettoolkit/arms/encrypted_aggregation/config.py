"""Keys of ``arm: encrypted_aggregation``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.federated.config import RoundKeys
from pettoolkit.arms.keys import Flag
from pettoolkit.records import RunSpec

FEWEST = 3
"""With two hospitals the decrypted sum minus one's own update is the other's."""


class EncryptedAggregationKeys(RoundKeys):
    """Updates travel as CKKS ciphertexts; rates and rounds are those of ``federated``, for parity."""

    arm: Literal["encrypted_aggregation"]
    strategy: Literal["fedavg", "fedsgd", "fedadam"] | None = Field(
        default=None, description="fedavg if not written, fedsgd with dp."
    )
    allow_two: Flag = Field(
        default=False, description="Run with two hospitals, each of which can read the other's update."
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("shared", "local")

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if cell.sites and len(cell.sites) < (2 if self.allow_two else FEWEST):
            return (
                f"encryption hides nothing among {len(cell.sites)} hospitals: the sum minus one's own update is the "
                "other's (add hospitals; two can be had with allow_two: true)"
            )
        if cell.dp is not None and cell.dp.noise == "shared" and cell.options["strategy"] != "fedsgd":
            return (
                f"shared noise covers one clipped sum a round, not local steps ({cell.options['strategy']}); "
                "write strategy: fedsgd, or noise: local"
            )
        return super().refuse(cell)
