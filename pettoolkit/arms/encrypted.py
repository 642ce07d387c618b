"""What the arms behind the hospitals' shared key have in common: their keys in an experiment file, and the trust."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from pettoolkit.arms.keys import SUM_OF_ALL, ArmKeys, Flag
from pettoolkit.records import NotMeasured, PrivacyStatement, RunSpec

FEWEST = 3
"""With two hospitals the decrypted sum minus one's own part is the other's."""

HANDS_OVER = ("key", "keys", "key_file", "key_path", "secret_key", "coordinator_key", "decrypt_at")
"""Keys of a file that would bring the secret to whoever reads the file: the coordinator."""

TRUST = "no hospital colludes with the coordinator; all hospitals share one secret key"


class EncryptedKeys(ArmKeys):
    """Keys of every arm whose hospitals share a secret key."""

    partners: ClassVar[str] = SUM_OF_ALL

    allow_two: Flag = Field(
        default=False, description="Run with two hospitals, each of which can read the other's part of a sum."
    )

    @model_validator(mode="before")
    @classmethod
    def _keeps_the_secret(cls, data: Any) -> Any:
        """Refuse a file that names the secret key: the coordinator reads the file."""
        given = [name for name in HANDS_OVER if isinstance(data, dict) and name in data]
        if given:
            raise ValueError(
                f"{given[0]}: the coordinator reads this file and must not hold the hospitals' secret key, which "
                "decrypts everything; remove it, and carry the file of `pettoolkit keys create` to the hospitals"
            )
        return data

    def too_few(self, cell: RunSpec) -> str | None:
        """Why a sum over so few hospitals hides nothing, or None; not judged while they are unknown."""
        if cell.sites and len(cell.sites) < (2 if self.allow_two else FEWEST):
            return (
                f"encryption hides nothing among {len(cell.sites)} hospitals: the sum minus one's own update is the "
                "other's (add hospitals; two can be had with allow_two: true)"
            )
        return None


def trust(leaks_if_collude: str, also: str = "") -> PrivacyStatement:
    """Privacy of an arm without differential privacy whose hospitals share a key."""
    return PrivacyStatement(
        guarantee=NotMeasured("no differential privacy"),
        trust=f"{TRUST}{also}",
        leaks_if_collude=leaks_if_collude,
        reversible="ciphertexts: by whoever holds the hospitals' key; the released model: as any model",
    )
