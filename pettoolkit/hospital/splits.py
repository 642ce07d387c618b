"""Who is trained on, validated on, tested on and kept apart, decided by a hash of the patient.

The order of a keyed hash within (site, outcome) decides, so that the same seed gives every arm the same
patients, a new row moves nobody else far, and nothing depends on the order of a file. In deployment the
hash is keyed with a secret of the hospital, so that an outsider can't tell who is in which part.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.intp]

TRAIN, VALIDATION, TEST, REFERENCE = 0.55, 0.10, 0.20, 0.15


@dataclass(frozen=True)
class Split:
    """Sorted row indices of each part; a patient's rows are all in one part.

    ``control`` and ``attacker`` share the reference patients, who are never trained on.
    """

    train: Index
    validation: Index
    test: Index
    control: Index
    attacker: Index


def first_of_each(patients: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
    """For each row the index of its patient's first row, shape (n,): 0..n-1 where each row is another patient."""
    _, first, row_patient = np.unique(patients.astype(str), return_index=True, return_inverse=True)
    numbers: npt.NDArray[np.int64] = first[row_patient].astype(np.int64)
    return numbers


def first_patients(patients: npt.NDArray[np.object_], n: int, seed: int, salt: bytes = b"") -> npt.NDArray[np.bool_]:
    """Mark the rows of the first ``n`` patients in an order that a keyed hash gives each of them by itself.

    So nobody's place depends on who else is there: with one patient more, at most one other leaves. More patients
    include fewer.

    Parameters
    ----------
    patients
        Patient id of each row, shape (rows,).
    seed, salt
        As in :func:`split_patients`, whose order is another one.
    """
    ids, row_patient = np.unique(patients.astype(str), return_inverse=True)
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[np.argsort(_keyed(ids, salt + f"{seed}/sub-sample".encode()), kind="stable")[:n]] = True
    marked: npt.NDArray[np.bool_] = chosen[row_patient]
    return marked


def split_patients(
    patients: npt.NDArray[np.object_],
    outcome: npt.NDArray[np.generic],
    seed: int,
    salt: bytes = b"",
    tested: npt.NDArray[np.bool_] | None = None,
) -> Split:
    """Split rows by patient, 55/10/20/15 within each outcome.

    Parameters
    ----------
    patients
        Patient id of each row, shape (n,).
    outcome
        Binary outcome of each row; a patient's stratum is the largest of their rows.
    seed
        The run's seed, which is the split seed.
    salt
        Secret of a deployed hospital; empty in simulations.
    tested
        Marks rows that a date split puts into the test part; the others are then shared out in the
        proportions of train, validation and reference.

    Returns
    -------
    Split
    """
    ids, row_patient = np.unique(patients.astype(str), return_inverse=True)
    stratum = np.zeros(len(ids), dtype=np.int64)
    np.maximum.at(stratum, row_patient, (outcome == 1).astype(np.int64))
    dated = np.zeros(len(ids), dtype=bool)
    if tested is not None:
        np.logical_or.at(dated, row_patient, tested)
    order = _keyed(ids, salt + str(seed).encode())

    part = np.full(len(ids), "test", dtype="U10")
    shares = {
        "train": TRAIN,
        "validation": VALIDATION,
        "test": TEST,
        "control": REFERENCE / 2,
        "attacker": REFERENCE / 2,
    }
    if tested is not None:
        del shares["test"]
    edges = np.cumsum(list(shares.values())) / sum(shares.values())
    for value in (0, 1):
        members = np.flatnonzero((stratum == value) & ~dated)
        members = members[np.argsort(order[members], kind="stable")]
        cuts = np.rint(edges * len(members)).astype(int)
        for name, begin, end in zip(shares, np.r_[0, cuts[:-1]], cuts, strict=True):
            part[members[begin:end]] = name
    of_row = part[row_patient]
    return Split(
        **{name: np.flatnonzero(of_row == name) for name in ("train", "validation", "test", "control", "attacker")}
    )


def places(patients: npt.NDArray[np.object_], seed: int, salt: bytes = b"") -> npt.NDArray[np.float64]:
    """Where each row's patient stands in the order of :func:`split_patients`, in [0, 1), shape (rows,).

    Everybody together is spread evenly; who is trained on stands before about :data:`TRAIN`.
    """
    ids, row_patient = np.unique(patients.astype(str), return_inverse=True)
    order = np.array([int(key, 16) / 2**64 for key in _keyed(ids, salt + str(seed).encode())])
    place: npt.NDArray[np.float64] = order[row_patient]
    return place


def _keyed(ids: npt.NDArray[np.str_], secret: bytes) -> npt.NDArray[np.bytes_]:
    """A hash of each id, by which they are ordered; shape of ``ids``."""
    key = hashlib.blake2b(secret, digest_size=16).digest()
    return np.array([hashlib.blake2b(i.encode(), key=key, digest_size=8).hexdigest() for i in ids], dtype="S16")
