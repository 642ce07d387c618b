"""The one place that knows SDV (version 2): its Gaussian copula, CTGAN and TVAE as generators of ours.

Out of the box SDV draws missing values independently of everything else and ties a rare outcome to the
columns only loosely, so that models learn nothing from its rows (AUROC .52 on the sepsis data), and CTGAN and
TVAE change how common the outcome is. Here each outcome class has its own model, so that the prevalence is the
hospital's by construction, and each column that can be missing has an indicator column beside it.
Metadata come from the contract and are never detected from patients; the extremes and decimals of the
data are not copied either (``enforce_min_max_values`` and ``enforce_rounding`` are off).

SDV is under the Business Source License 1.1: it may be installed and used, not copied into this project.
"""

from __future__ import annotations

import abc
import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.errors import BadInput, Refused
from pettoolkit.synthesis.protocol import DpBudget, GuaranteeEvent
from pettoolkit.synthesis.rows import Floats, allocate, assemble, class_values, classes, from_unit, number, to_unit

Distribution = Literal["norm", "beta", "truncnorm", "gamma", "uniform", "gaussian_kde"]

MIN_ROWS = 10
"""Patients of a class below which it gets no model of its own."""

EPOCHS = 10
"""Of CTGAN and TVAE if not written."""

BATCHES, SMALLEST_BATCH, LARGEST_BATCH = 20, 20, 500
"""CTGAN and TVAE: about so many batches an epoch, within these sizes. SDV's own 500 would be one step an epoch for the
few patients of a rare class."""

PAC = 10
"""CTGAN's discriminator looks at so many rows at once (its default); batches are multiples of it."""

TABLE = "rows"
_MISSING = "(missing)"
_SEED_LIMIT = 2**32 - 1  # numpy's global generator takes 32-bit seeds


@dataclass
class _ClassModel:
    """One class's synthesizer and what stays outside it: columns in which all its rows agree."""

    synthesizer: Any | None
    constants: Mapping[str, Any] = field(default_factory=dict)


class SdvGenerator(abc.ABC):
    """One of SDV's synthesizers per outcome class.

    A class with fewer than :data:`MIN_ROWS` patients takes a model fitted on *all* of the hospital's
    rows instead (its rows then say nothing about the outcome); this is noted. A column in which all rows
    of a class agree, or which is missing throughout, is repeated as it is. There is no guarantee.
    """

    name: ClassVar[str]
    """In an experiment file."""

    def __init__(self) -> None:
        self._contract: Contract | None = None
        self._shares: Floats = np.zeros(0)
        self._models: dict[int, _ClassModel] = {}
        self._notes: tuple[str, ...] = ()
        self._clipped = 0

    @abc.abstractmethod
    def _synthesizer(self, metadata: Any, sdtypes: Mapping[str, str], rows: int) -> Any:
        """Make SDV's synthesizer for columns of these types and a class of so many rows."""

    def _after_fit(self, synthesizer: Any, rows: int) -> None:  # noqa: B027 (most have nothing to do)
        """Change what was fitted, where there is a dial that SDV has not."""

    @property
    def events(self) -> tuple[GuaranteeEvent, ...]:
        """Always empty: nothing is guaranteed."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        return self._notes

    @property
    def counts(self) -> Mapping[str, int]:
        """``clipped``: values of the last sample that lay beyond the contract's bounds."""
        return {"clipped": self._clipped}

    def plan(self, contract: Contract, dp: DpBudget | None) -> tuple[GuaranteeEvent, ...]:
        """Nothing, or a refusal: SDV's generators have no differential privacy."""
        if dp is not None:
            raise Refused(f"generator {self.name} has no differential privacy (use generator: marginals)")
        return ()

    def fit(self, rows: pd.DataFrame, contract: Contract, *, seed: int, dp: DpBudget | None) -> None:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        self.plan(contract, dp)
        label = classes(rows, contract)
        if len(rows) < MIN_ROWS:
            raise Refused(
                f"generator {self.name}: this hospital has fewer than {MIN_ROWS} training patients "
                "(leave the hospital out, or use generator: marginals)"
            )
        kinds = class_values(contract)
        per_class = np.bincount(label, minlength=len(kinds))
        self._contract, self._notes = contract, ()
        self._shares = per_class / len(label)
        rng = np.random.default_rng(seed)
        with _quiet(int(rng.integers(_SEED_LIMIT))):
            self._models = {
                y: self._fit_class(rows[label == y] if count >= MIN_ROWS else rows, contract, rng)
                for y, count in enumerate(per_class)
                if count
            }
        self._notes = tuple(
            f"class {kinds[y]} has fewer than {MIN_ROWS} patients: its rows come from a model of all rows"
            for y, count in enumerate(per_class)
            if 0 < count < MIN_ROWS
        )

    def sample(self, n: int, *, seed: int) -> pd.DataFrame:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        if self._contract is None:
            raise Refused(f"generator {self.name}: sample was asked for before fit")
        rng = np.random.default_rng(seed)
        per_class = allocate(n, self._shares)
        label = np.repeat(np.arange(len(per_class)), per_class)
        with _quiet(int(rng.integers(_SEED_LIMIT))):
            parts = [_draw(self._models[y], int(k), int(rng.integers(2**31))) for y, k in enumerate(per_class) if k]
        columns = self._contract.feature_columns
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_columns(self._contract))
        order = rng.permutation(n)
        self._clipped = 0
        values = {column.name: self._natural(table, column)[order] for column in columns}
        return assemble(values, label[order], self._contract)

    def _fit_class(self, rows: pd.DataFrame, contract: Contract, rng: np.random.Generator) -> _ClassModel:
        from sdv.metadata import Metadata

        table, sdtypes = _sdv_table(rows, contract, rng)
        constants = {name: table[name].iloc[0] for name in sdtypes if table[name].nunique(dropna=False) == 1}
        varying = {name: sdtype for name, sdtype in sdtypes.items() if name not in constants}
        if not varying:
            return _ClassModel(None, constants)
        described = {"tables": {TABLE: {"columns": {n: {"sdtype": sdtype} for n, sdtype in varying.items()}}}}
        synthesizer = self._synthesizer(Metadata.load_from_dict(described), varying, len(table))
        synthesizer.fit({TABLE: table[list(varying)]})
        self._after_fit(synthesizer, len(table))
        return _ClassModel(synthesizer, constants)

    def _natural(self, table: pd.DataFrame, column: Column) -> npt.NDArray[np.generic]:
        if column.kind != "number":
            text = table[column.name].to_numpy(dtype=object)
            missing = text == _MISSING
            if column.kind == "category":
                text[missing] = None
                return text
            return np.where(missing, np.nan, (text == "1").astype(np.float64))
        missing = np.zeros(len(table), dtype=bool)
        if column.missing != "never":
            missing = table[_indicator(column)].to_numpy(dtype=object) == "1"
        unit = table[column.name].to_numpy(dtype=np.float64)
        self._clipped += int((((unit < 0) | (unit > 1)) & ~missing).sum())
        return np.where(missing, np.nan, from_unit(unit, column))


class GaussianCopula(SdvGenerator):
    """SDV's GaussianCopulaSynthesizer, one per outcome class; see :class:`SdvGenerator`.

    Parameters
    ----------
    distribution
        Shape of the number columns on the contract's scale. For 2,000 patients and 22 columns ``norm`` takes
        1 s, ``beta`` 3 s and ``gaussian_kde`` (which keeps shapes best) 40 s; models trained on rows of
        ``norm`` were the best.
    smoothing
        The fidelity dial: pseudo-patients without any correlation, who shrink the class's correlations by
        n / (n + smoothing). 0 leaves SDV's; infinity leaves independent columns.
    """

    name = "gaussian_copula"

    def __init__(self, distribution: Distribution = "norm", smoothing: float = 0.0) -> None:
        super().__init__()
        known = ("norm", "beta", "truncnorm", "gamma", "uniform", "gaussian_kde")
        if distribution not in known:
            names = ", ".join(known)
            raise BadInput(f"generator gaussian_copula: distribution must be one of {names} (got {distribution})")
        if not smoothing >= 0:
            raise BadInput(f"generator gaussian_copula: smoothing must be at least 0 (got {smoothing})")
        self._distribution, self._smoothing = distribution, smoothing

    def _synthesizer(self, metadata: Any, sdtypes: Mapping[str, str], rows: int) -> Any:
        from sdv.single_table import GaussianCopulaSynthesizer

        # SDV turns categories into uniform numbers, which must not be fitted as anything else
        shapes = {n: self._distribution if sdtype == "numerical" else "uniform" for n, sdtype in sdtypes.items()}
        return GaussianCopulaSynthesizer(
            metadata, enforce_min_max_values=False, enforce_rounding=False, numerical_distributions=shapes
        )

    def _after_fit(self, synthesizer: Any, rows: int) -> None:
        if self._smoothing:
            model = synthesizer._model  # the copula itself; SDV has no way to reach it
            off = ~np.eye(len(model.correlation), dtype=bool)
            model.correlation = model.correlation.mask(off, model.correlation * (rows / (rows + self._smoothing)))


class Ctgan(SdvGenerator):
    """SDV's CTGANSynthesizer (Xu et al. 2019, arXiv:1907.00503), one per outcome class; see :class:`SdvGenerator`.

    Parameters
    ----------
    epochs
        Passes over the class's rows: the fidelity dial. A few leave noise, hundreds begin to repeat patients.
    """

    name = "ctgan"

    def __init__(self, epochs: int = EPOCHS) -> None:
        super().__init__()
        self._epochs = checked_epochs(self.name, epochs)

    def _synthesizer(self, metadata: Any, sdtypes: Mapping[str, str], rows: int) -> Any:
        from sdv.single_table import CTGANSynthesizer

        return CTGANSynthesizer(
            metadata,
            enforce_min_max_values=False,
            enforce_rounding=False,
            epochs=self._epochs,
            batch_size=batch_of(rows),
            pac=PAC,
            enable_gpu=False,  # the seeds fix what a processor draws
        )


class Tvae(SdvGenerator):
    """SDV's TVAESynthesizer (Xu et al. 2019, arXiv:1907.00503), one per outcome class; see :class:`SdvGenerator`.

    Parameters
    ----------
    epochs
        Passes over the class's rows: the fidelity dial.
    """

    name = "tvae"

    def __init__(self, epochs: int = EPOCHS) -> None:
        super().__init__()
        self._epochs = checked_epochs(self.name, epochs)

    def _synthesizer(self, metadata: Any, sdtypes: Mapping[str, str], rows: int) -> Any:
        from sdv.single_table import TVAESynthesizer

        return TVAESynthesizer(
            metadata,
            enforce_min_max_values=False,
            enforce_rounding=False,
            epochs=self._epochs,
            batch_size=batch_of(rows),
            enable_gpu=False,
        )


def checked_epochs(name: str, epochs: int) -> int:
    """See that there is at least one epoch.

    Raises
    ------
    BadInput
        If there is not.
    """
    if epochs < 1:
        raise BadInput(f"generator {name}: epochs must be at least 1 (got {epochs})")
    return epochs


def batch_of(rows: int) -> int:
    """Rows of a batch, a multiple of :data:`PAC`: about a twentieth of the class, within limits."""
    return PAC * max(SMALLEST_BATCH // PAC, min(LARGEST_BATCH, rows // BATCHES) // PAC)


def _draw(model: _ClassModel, n: int, seed: int) -> pd.DataFrame:
    if model.synthesizer is None:
        return pd.DataFrame(model.constants, index=range(n))
    # without this SDV starts every sample of every generator at the same fixed state
    model.synthesizer._set_random_state(seed)
    drawn: pd.DataFrame = model.synthesizer.sample(n)[TABLE]
    return drawn.assign(**model.constants)


def _indicator(column: Column) -> str:
    return f"{column.name}?"


def _columns(contract: Contract) -> list[str]:
    numbers = [c for c in contract.feature_columns if c.kind == "number" and c.missing != "never"]
    return [c.name for c in contract.feature_columns] + [_indicator(c) for c in numbers]


def _sdv_table(rows: pd.DataFrame, contract: Contract, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows as SDV gets them (nothing missing), and the sdtype of each column.

    Numbers are on [0, 1] between the public bounds. A missing number is filled with a random observed one of
    the same column, so that its shape stays, and its indicator (``"1"``) has the correlations.
    """
    columns: dict[str, Any] = {}
    sdtypes: dict[str, str] = {}
    for column in contract.feature_columns:
        if column.kind != "number":
            columns[column.name], sdtypes[column.name] = _levels(rows, column), "categorical"
            continue
        unit = to_unit(number(rows, column.name), column)
        missing = np.isnan(unit)
        observed = unit[~missing]
        unit[missing] = rng.choice(observed, int(missing.sum())) if len(observed) else 0.5
        columns[column.name], sdtypes[column.name] = unit, "numerical"
        if column.missing != "never":
            columns[_indicator(column)] = np.where(missing, "1", "0").astype(object)
            sdtypes[_indicator(column)] = "categorical"
    return pd.DataFrame(columns), sdtypes


def _levels(rows: pd.DataFrame, column: Column) -> Any:
    """Write levels as text; what is missing or unknown is its own level, or the first if it never may be missing."""
    levels = ("0", "1") if column.kind == "binary" else column.levels
    out = np.full(len(rows), levels[0] if column.missing == "never" else _MISSING, dtype=object)
    for i, level in enumerate(levels):
        hit = number(rows, column.name) == i if column.kind == "binary" else (rows[column.name] == level).to_numpy()
        out[hit] = level
    return out


@contextlib.contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Seed the global generators of numpy and torch, silence warnings and logs; put everything back afterwards.

    SDV and rdt draw from numpy's global generator, so there is no other way to fix what they do.
    """
    import torch

    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    disabled = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with (
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
            contextlib.redirect_stdout(io.StringIO()),  # advice on speed, printed for wide tables
        ):
            warnings.simplefilter("ignore")
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        logging.disable(disabled)
