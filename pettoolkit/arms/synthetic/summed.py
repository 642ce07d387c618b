"""Inside: hospitals answer the generator's questions together, each adding its part of the noise, under encryption.

The generator of `marginals` asks in stages (:mod:`pettoolkit.synthesis.conversation`). For each stage every hospital
sends its counts plus its part of the noise as ciphertexts; the coordinator adds them, and every hospital decrypts the
sum, from which all work out the same next stage. In the end one hospital draws the rows. So the generator is that of
pooled patients, with one noise instead of one per hospital, and nobody but the hospitals sees any count.

Differential privacy: the whole conversation is one entry of the ledger, made before a patient is read, since its
questions together spend the run's budget whatever the answers are. A stage is answered once, and its sum is
accepted once: a stage that comes again gets the stored answer. Each hospital adds noise of sigma / sqrt(honest sites).

What leaves depends on decrypted sums, whose error could give the key away (Li and Micciancio 2021, Eurocrypt). So
counts travel as multiples of :data:`~pettoolkit.arms.synthetic.scheme.GRID`, far apart against the error, and sums are
rounded to them: no trace of the error is left in what is built from them.
"""

from __future__ import annotations

import math
import time

import numpy as np

from pettoolkit.arms import vault
from pettoolkit.arms.generating import Made, envelope_of, fit_id, one_row_each
from pettoolkit.arms.generators import balance_of
from pettoolkit.arms.private import budget_of, check_room, check_total
from pettoolkit.arms.synthetic.scheme import CLIP, GRID, ROUNDS, scheme_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.encryption.ckks import decrypt_measured, encrypt
from pettoolkit.errors import Refused
from pettoolkit.hospital.accounts import ledger_of, noise_of
from pettoolkit.hospital.envelope import Ciphertexts, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.seeding import derived_seed
from pettoolkit.privacy.accounting import gaussian_mu
from pettoolkit.privacy.events import Identity
from pettoolkit.privacy.ledger import Budget
from pettoolkit.privacy.noise import Draw, site_sd
from pettoolkit.records import RunSpec
from pettoolkit.synthesis.cells import cells_of
from pettoolkit.synthesis.conversation import TABLES, Fitted, Stage, conversation
from pettoolkit.synthesis.drawing import Drawn, draw
from pettoolkit.synthesis.marginals import Marginals, codes_of
from pettoolkit.synthesis.noisy import DP_BINS
from pettoolkit.synthesis.protocol import DpBudget, GuaranteeEvent, one_mechanism
from pettoolkit.synthesis.rows import Floats, class_values, classes

PURPOSE = "summed counts"

EXACT = 1e12
"""rho of a plan without differential privacy: whatever the generator can ask is worth asking, and no noise is drawn."""


def contribute(site: Site, request: Request) -> Envelope:
    """This hospital's counts for a stage, its part of the noise included, encrypted."""
    spec, number, patients = request.spec, request.round, int(request.extra["patients"])
    key = vault.key_for(site, spec, scheme_of(spec, site.narrowed(spec)))
    label = _label(spec, number, patients)
    stored = once(site.store, f"{label}/own", lambda: _own(site, spec, number, patients))
    began = time.perf_counter()
    blobs = encrypt(key, vault.load(stored)["values"], label, site.name)
    seconds = time.perf_counter() - began
    _, here = site.training_patients(spec)
    return Envelope("ciphertext", "training", Ciphertexts(tuple(blobs), here), {"encrypt_seconds": seconds})


def apply(site: Site, request: Request) -> Envelope:
    """Decrypt and keep the sum of a stage; ``done`` says whether it was the last."""
    began = time.perf_counter()
    spec, number, patients = request.spec, request.round, int(request.extra["patients"])
    once(site.store, _label(spec, number, patients), lambda: _decrypted(site, request))
    done = isinstance(_replayed(site, spec, number + 1, patients), Fitted)
    seconds = time.perf_counter() - began
    return Envelope("metrics", "training", Figures({"decrypt_seconds": seconds, "done": float(done)}))


def release(site: Site, request: Request) -> Envelope:
    """Rows drawn from the generator that the sums make: one hospital's task."""
    spec, patients = request.spec, int(request.extra["patients"])
    vault.released_here(site, spec)
    data = once(
        site.store, f"{fit_id(spec)}/summed/rows", lambda: _rows(site, spec, request.round, patients).to_bytes()
    )
    return envelope_of(Made.from_bytes(data))


def _own(site: Site, spec: RunSpec, number: int, patients: int) -> bytes:
    """Counts and noise of a stage as shares of all patients, on the grid, padded to the scheme's length."""
    stage = _replayed(site, spec, number, patients)
    if isinstance(stage, Fitted):
        raise Refused(f"hospital {site.name}: the generator of this run has no question {number} (it is fitted)")
    contract = site.narrowed(spec)
    _check_fits(site, spec, contract, patients)
    rows = site.table(spec, "train")
    codes, label = codes_of(cells_of(contract, DP_BINS), rows), classes(rows, contract)
    counts = np.concatenate([q.exact(codes, label) for q in stage])
    if spec.dp is not None:
        attempt = _granted(site, spec, patients)
        source = noise_of(site, spec.seed, spec.dp.noise)
        counts += source.normals(Draw(PURPOSE, number, attempt), len(counts)) * sd_here(spec, stage)
    values = on_grid(counts, patients)
    scheme = scheme_of(spec, contract)
    padded = np.zeros(scheme.values)
    padded[: len(values)] = np.clip(values / patients, -CLIP, CLIP)
    return vault.dump({"values": padded})


def on_grid(counts: Floats, patients: int) -> Floats:
    """Noisy counts as they are sent: within the range of the encryption, as multiples of the grid."""
    return np.asarray(np.rint(np.clip(counts, -CLIP * patients, CLIP * patients) / GRID) * GRID)


def whole(total: Floats) -> Floats:
    """A decrypted sum, rounded to the grid first, which takes the encryption's error away, then to whole counts."""
    return np.asarray(np.rint(np.rint(total / GRID) * GRID))


def sd_here(spec: RunSpec, stage: Stage) -> Floats:
    """SD of one hospital's part of the noise on each number of a stage."""
    return np.concatenate([np.full(q.size, _sd_here(spec, q.event)) for q in stage])


def _decrypted(site: Site, request: Request) -> bytes:
    spec, number, patients = request.spec, request.round, int(request.extra["patients"])
    if not 1 <= number <= ROUNDS:
        raise Refused(f"hospital {site.name}: this run has at most {ROUNDS} stages, {number} is none of them")
    scheme = scheme_of(spec, site.narrowed(spec))
    if scheme.error * patients >= GRID / 2:
        raise Refused(
            f"hospital {site.name}: sums over {patients} patients are beyond what this encryption is exact for"
        )
    key = vault.key_for(site, spec, scheme)
    found = decrypt_measured(
        key,
        request.blobs,
        len(spec.sites),
        _label(spec, number, patients),
        spec.sites,
        before=lambda: vault.count(site, spec, key, request.blobs),
    )
    return vault.dump({"values": whole(found.values * patients)})


def _replayed(site: Site, spec: RunSpec, number: int, patients: int) -> Stage | Fitted:
    """The questions of stage ``number``, or the generator if it has been fitted before: from stored sums alone."""
    contract = site.narrowed(spec)
    talk = conversation(
        cells_of(contract, DP_BINS), len(class_values(contract)), patients, plan_of(spec, contract, patients)
    )
    stage = next(talk)
    for before in range(1, number):
        total = vault.stored(site, _label(spec, before, patients), before)["values"]
        ends = np.cumsum([q.size for q in stage])
        try:
            stage = talk.send(np.split(total[: ends[-1]], ends[:-1]))
        except StopIteration as end:
            fitted: Fitted = end.value
            return fitted
    return stage


def plan_of(spec: RunSpec, contract: Contract, patients: int) -> tuple[GuaranteeEvent, ...]:
    """What the generator asks within the run's budget."""
    rho = EXACT if spec.dp is None else gaussian_mu(spec.dp.epsilon, spec.dp.delta) ** 2 / 2
    return Marginals().plan(contract, DpBudget(rho, np.random.default_rng(0), patients))


def _granted(site: Site, spec: RunSpec, patients: int) -> int:
    """Charge the whole conversation to this hospital's ledger, once; gives the attempt that the noise is named by."""
    dp = budget_of(spec)
    one_row_each(site, spec)
    run, honest = fit_id(spec), dp.honest_sites or len(spec.sites)
    mechanism = one_mechanism(plan_of(spec, site.narrowed(spec), patients), honest)
    account = ledger_of(site, run, Budget(dp.epsilon, dp.delta), mechanism)
    simulated = noise_of(site, spec.seed, dp.noise).simulated
    identity = Identity(run, site.name, 0, PURPOSE, f"{patients} patients")
    return int(account.answer(identity, mechanism, lambda attempt: str(attempt).encode(), simulated=simulated))


def _check_fits(site: Site, spec: RunSpec, contract: Contract, patients: int) -> None:
    """Refuse, by public numbers, what counts or noise could leave the encryption's range with.

    Clipped noise is not the noise that the ledger is charged for: cut off at the range, it would protect less.
    """
    _, here = site.training_patients(spec)
    check_total(site, patients, here)
    if spec.dp is None:
        return
    # the tables of pairs share one budget: they are at most one fewer than the columns
    shared = {TABLES: math.sqrt(max(len(contract.feature_columns) - 1, 1))}
    loudest = max(_sd_here(spec, e) * shared.get(e.query, 1.0) for e in plan_of(spec, contract, patients))
    check_room(site, spec, here, loudest, CLIP * patients)


def _sd_here(spec: RunSpec, event: GuaranteeEvent) -> float:
    dp = budget_of(spec)
    return site_sd(event.sigma, 1.0, "shared", dp.honest_sites or len(spec.sites))


def _rows(site: Site, spec: RunSpec, number: int, patients: int) -> Made:
    fitted = _replayed(site, spec, number + 1, patients)
    if not isinstance(fitted, Fitted):
        raise Refused(f"hospital {site.name}: the generator of this run is not fitted yet")
    drawn = drawn_from(spec, site.narrowed(spec), fitted, patients)
    return Made(drawn.rows, {"rows": float(len(drawn.rows)), **drawn.figures})


def drawn_from(spec: RunSpec, contract: Contract, fitted: Fitted, patients: int) -> Drawn:
    """The rows that a run releases of its fitted generator."""
    per_hospital = spec.options["rows"]
    n = patients if per_hospital is None else int(per_hospital) * len(spec.sites)
    seed = derived_seed(spec.seed, "sample", "summed")
    return draw(Marginals.of(fitted, contract), contract, n, seed=seed, balance=balance_of(spec.options))


def _label(spec: RunSpec, number: int, patients: int) -> str:
    return f"{fit_id(spec)}/summed/{number}/{patients}"


HANDLERS = {"contribute": contribute, "apply": apply, "release": release}
