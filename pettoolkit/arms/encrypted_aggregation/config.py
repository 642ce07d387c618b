"""Keys of ``arm: encrypted_aggregation``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.encrypted import EncryptedKeys
from pettoolkit.arms.federated.config import RoundKeys
from pettoolkit.records import RunSpec


class EncryptedAggregationKeys(EncryptedKeys, RoundKeys):
    """Updates travel as CKKS ciphertexts; rates and rounds are those of ``federated``, for parity."""

    arm: Literal["encrypted_aggregation"]
    strategy: Literal["fedavg", "fedsgd", "fedadam"] | None = Field(
        default=None, description="fedavg if not written, fedsgd with dp."
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("shared", "local")

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        few = self.too_few(cell)
        if few:
            return few
        if cell.dp is not None and cell.dp.noise == "shared" and cell.options["strategy"] != "fedsgd":
            return (
                f"shared noise covers one clipped sum a round, not local steps ({cell.options['strategy']}); "
                "write strategy: fedsgd, or noise: local"
            )
        return super().refuse(cell)
