"""One hospital: its rows and what it needs to answer questions about them. Knows no technology."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from pettoolkit.cohort.contract import Contract, FeatureSet
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.errors import Refused
from pettoolkit.hospital.policy import Policy
from pettoolkit.hospital.splits import Index, Split, first_of_each, first_patients, split_patients
from pettoolkit.hospital.store import MemoryStore, Store
from pettoolkit.models.training import Rows
from pettoolkit.privacy.ledger import Ledger, Lifetime
from pettoolkit.records import RunSpec

Part = Literal["train", "validation", "test", "control", "attacker"]


@dataclass
class Site:
    """A hospital.

    Parameters
    ----------
    name
        Its public name.
    rows
        Its table in natural units, columns of ``contract``: one row per patient, or several with one patient id.
    contract
        Row contract with all columns; a run's feature set narrows it.
    salt
        Secret that keys the split of a deployed hospital; empty in simulations.
    keys
        Folder of the encryption keys' files that were carried here outside the wire; None: there are none.
    key_counts
        Where decryptions under a key are counted; the hospital's store if None.
    folder
        Its own folder, where ledgers are files; None keeps them in memory (simulation in one process).
    ledgers, lifetime
        What was spent on its patients, by run and in all (:mod:`pettoolkit.hospital.accounts`).
    system_noise
        Whether privacy noise comes from the system's entropy (deployed) or from the run's seed.
    """

    name: str
    rows: pd.DataFrame = field(repr=False)
    contract: Contract
    policy: Policy = field(default_factory=Policy.simulated)
    store: Store = field(default_factory=MemoryStore)
    salt: bytes = field(default=b"", repr=False)
    keys: Path | None = None
    key_counts: Store | None = None
    system_noise: bool = False

    folder: Path | None = None
    ledgers: dict[str, Ledger] = field(default_factory=dict, repr=False)
    lifetime: Lifetime | None = field(default=None, repr=False)

    _splits: dict[int, Split] = field(default_factory=dict, init=False, repr=False)
    _parts: dict[tuple[str, int, Part, int | None], Rows] = field(default_factory=dict, init=False, repr=False)
    _training_patients: dict[tuple[int, int | None], tuple[torch.Tensor | None, int]] = field(
        default_factory=dict, init=False, repr=False
    )
    _encodings: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, init=False, repr=False)
    _first_row: npt.NDArray[np.int64] | None = field(default=None, init=False, repr=False)
    _hashed: tuple[Contract, str] | None = field(default=None, init=False, repr=False)
    _narrowed: dict[FeatureSet, tuple[Contract, Contract]] = field(default_factory=dict, init=False, repr=False)

    def split(self, seed: int) -> Split:
        """The split of this hospital's patients for a run's seed."""
        if seed not in self._splits:
            self._splits[seed] = self._compute_split(seed)
        return self._splits[seed]

    def index(self, spec: RunSpec, part: Part) -> Index:
        """Row indices of a part, sorted; training patients are cut to ``spec.patients_per_site`` if it is set.

        Validation and test patients are never cut: however many train, all are judged on the same patients.

        Raises
        ------
        Refused
            If there is nobody to train on.
        """
        split = self.split(spec.seed)
        chosen: Index = getattr(split, part)
        if part != "train":
            return chosen
        if not len(chosen):
            raise Refused(f"hospital {self.name}: has no training patients (leave it out: evaluation.unseen)")
        if spec.patients_per_site is not None:
            chosen = self._first(chosen, spec.patients_per_site, spec.seed)
        return chosen

    def part(self, spec: RunSpec, part: Part) -> Rows:
        """Encoded rows of a part as tensors."""
        key = (spec.features, spec.seed, part, spec.patients_per_site)
        if key not in self._parts:
            x, y = self._encoded(spec.features)
            index = torch.from_numpy(self.index(spec, part))
            self._parts[key] = Rows(x[index], y[index])
        return self._parts[key]

    def training_patients(self, spec: RunSpec) -> tuple[torch.Tensor | None, int]:
        """Whose each training row is (None: each row is a patient of its own), and how many patients there are."""
        key = (spec.seed, spec.patients_per_site)
        if key not in self._training_patients:
            numbers = self.numbers(self.index(spec, "train"))
            unique, code = np.unique(numbers, return_inverse=True)
            several = len(unique) < len(numbers)
            self._training_patients[key] = (torch.from_numpy(code) if several else None), len(unique)
        return self._training_patients[key]

    def table(self, spec: RunSpec, part: Part) -> pd.DataFrame:
        """Rows of a part in natural units: the features of the run's set and the outcome, no patient id."""
        contract = self.narrowed(spec)
        names = [c.name for c in contract.feature_columns] + [contract.outcome.name]
        return self.rows.iloc[self.index(spec, part)][names].reset_index(drop=True)

    def numbers(self, index: Index) -> npt.NDArray[np.int64]:
        """Whose each of these rows is, shape of ``index``: the number of the patient's first row in this table."""
        if self._first_row is None:
            self._first_row = first_of_each(self.patients())
        return self._first_row[index]

    @property
    def patients_known(self) -> bool:
        """Whether the contract says whose each row is."""
        return self.contract.named("patient_id") is not None

    def patients(self) -> npt.NDArray[np.object_]:
        """Patient id of each row; the row number where the contract has none."""
        column = self.contract.named("patient_id")
        if column is None:
            return np.arange(len(self.rows)).astype(str).astype(object)
        return self.rows[column].astype(str).to_numpy(dtype=object)

    def narrowed(self, spec: RunSpec) -> Contract:
        """The contract with the run's feature set.

        Raises
        ------
        Refused
            If the coordinator's contract is not this hospital's.
        """
        if spec.contract_digest and spec.contract_digest != self._digest():
            raise Refused(
                f"hospital {self.name}: the run's contract is not this hospital's (compare the contract files)"
            )
        return self._contract(spec.features)

    def _digest(self) -> str:
        """The contract's digest, made once for each contract: every message asks for it."""
        if self._hashed is None or self._hashed[0] is not self.contract:
            self._hashed = (self.contract, self.contract.digest())
        return self._hashed[1]

    def _contract(self, features: str) -> Contract:
        chosen: FeatureSet = "full" if features == "full" else "compact"
        made = self._narrowed.get(chosen)
        if made is None or made[0] is not self.contract:
            made = self._narrowed[chosen] = (self.contract, self.contract.select(chosen))
        return made[1]

    def _encoded(self, features: str) -> tuple[torch.Tensor, torch.Tensor]:
        if features not in self._encodings:
            contract = self._contract(features)
            x, y = encode(self.rows, contract), outcome(self.rows, contract)
            self._encodings[features] = (torch.from_numpy(x), torch.from_numpy(y))
        return self._encodings[features]

    def _compute_split(self, seed: int) -> Split:
        tested = None
        if self.contract.split is not None:
            tested = (self.rows["period"] == "test").to_numpy()  # the reader of tables marked it
        return split_patients(
            self.patients(), self.rows[self.contract.outcome.name].to_numpy(), seed, self.salt, tested
        )

    def _first(self, chosen: Index, patients: int, seed: int) -> Index:
        """All rows of the first patients in a seeded order, in which each has a place of their own."""
        return chosen[first_patients(self.patients()[chosen], patients, seed, self.salt)]
