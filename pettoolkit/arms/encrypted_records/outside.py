"""Encrypted records: the coordinator holds encrypted rows and evaluation keys, and trains on what it can't read."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted import trust
from pettoolkit.arms.encrypted_records.descent import shares
from pettoolkit.arms.encrypted_records.scheme import plan_of
from pettoolkit.arms.exchange import Reply, ask
from pettoolkit.encryption import envelope
from pettoolkit.encryption.parameters import SECURITY_BITS
from pettoolkit.encryption.records import RecordsPlan
from pettoolkit.encryption.records_trainer import RecordsTrainer
from pettoolkit.errors import PetError, SiteFailed
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Cost, Models, Outcome, RunSpec, Weights

PRIVACY = trust(
    "the coordinator and any one hospital together can read every uploaded row of every hospital",
    "; the hospital that refreshes sees the weights after every step; a coordinator that had other ciphertexts than "
    "weights refreshed would learn one bit of a run: whether its weights are released",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Upload once; then steps on ciphertexts, the weights refreshed in between; one hospital releases the last."""
    began = time.perf_counter()
    contract = contract_of(spec)
    counts = ask(grid, spec, "count", "setup", wants="metrics", sites=spec.sites)
    share = shares({s: int(r.figures["num-examples"]) for s, r in counts.items()}, int(spec.options["rows"]))
    plan = plan_of(spec, contract, sum(share.values()))
    talk = _Talk(grid, spec, plan)
    public = talk.one("keys", "setup").blobs
    trainer = RecordsTrainer(plan.to_bytes(), (public[0], public[1]))
    uploads = talk.all("upload", {"shares": json.dumps(share)})
    adding = time.perf_counter()
    for site, reply in uploads.items():
        before = trainer.held
        try:
            trainer.add_rows({envelope.unseal(blob)[0].index: blob for blob in reply.blobs}, site)
        except PetError as error:
            raise SiteFailed(site, f"its encrypted rows can't be used: {error}") from None
        if trainer.held - before != share[site]:
            raise SiteFailed(site, f"it sent {trainer.held - before} encrypted rows, {share[site]} were asked for")
    held = time.perf_counter()
    weights, computing = talk.one("begin", "training").blobs[0], 0.0
    iterations = int(spec.options["iterations"])
    for number in range(1, iterations + 1):
        stepping = time.perf_counter()
        stepped = trainer.step(weights)
        computing += time.perf_counter() - stepping
        if number < iterations:
            weights = talk.one("again", "training", number, stepped).blobs[0]
    released = talk.release(iterations, stepped)
    seconds = (time.perf_counter() - held) / iterations
    uploaded = sum(len(blob) for reply in uploads.values() for blob in reply.blobs)
    keys_mb = sum(map(len, public)) / 1e6
    return Outcome(
        models=Models({Models.SHARED: Weights.of(released.arrays)}),
        privacy=PRIVACY,
        exposure=grid.exposure(out_of_band=("keys",)),
        cost=Cost(
            time.perf_counter() - began,
            extra={
                "cost/ciphertext_expansion": uploaded / (4 * plan.rows * plan.features),
                "cost/encrypt_seconds": max(r.figures["encrypt_seconds"] for r in uploads.values())
                + talk.seconds["encrypt_seconds"],
                "cost/add_seconds": held - adding,
                "cost/decrypt_seconds": talk.seconds["decrypt_seconds"],
                "cost/compute_seconds": computing,
                "cost/seconds_per_iteration": seconds,
                "cost/evaluation_keys_mb": keys_mb,
            },
        ),
        rounds=iterations,
        encryption={
            "encryption/headroom_bits": plan.scheme().headroom_bits,
            "encryption/flooding_sd": released.figures["flooding_sd"],
            "encryption/security_bits": float(SECURITY_BITS),
            "encryption/max_error": released.figures["max_error"],
            "encryption/error_bound": 6 * plan.error_sd,
        },
        notes=(
            _which_rows(plan, share, {s: int(r.figures["num-examples"]) for s, r in counts.items()}),
            f"{iterations} steps of accelerated gradient descent, no early stopping; sigmoid of degree 3 on "
            f"[-{plan.radius:g}, {plan.radius:g}]; {seconds:.1f} s a step",
            f"evaluation keys of {keys_mb:.0f} MB from hospital {talk.first}, which also refreshed the weights "
            "and released the last with flooding noise",
        ),
    )


class _Talk:
    """What is asked of one hospital (the one that refreshes) or of all."""

    def __init__(self, grid: MeteredGrid, spec: RunSpec, plan: RecordsPlan) -> None:
        self._grid, self._spec, self._plan = grid, spec, plan
        self.first = min(spec.sites)
        self.seconds = {"encrypt_seconds": 0.0, "decrypt_seconds": 0.0}
        """Of all refreshes at the hospital that does them."""

    def one(self, action: str, purpose: str, number: int = 0, blob: bytes | None = None) -> Reply:
        """Ask the refreshing hospital for ciphertexts."""
        reply = ask(
            self._grid,
            self._spec,
            action,
            purpose,
            wants="ciphertext",
            sites=(self.first,),
            number=number,
            kind="request" if blob is None else "ciphertext",
            blobs=None if blob is None else [blob],
            extra={"rows": self._plan.rows},
        )[self.first]
        self._timed(reply)
        return reply

    def _timed(self, reply: Reply) -> None:
        for name in self.seconds:
            self.seconds[name] += reply.figures.get(name, 0.0)

    def all(self, action: str, extra: Mapping[str, int | float | str]) -> dict[str, Reply]:
        """Ask every hospital for ciphertexts."""
        return ask(
            self._grid,
            self._spec,
            action,
            "training",
            wants="ciphertext",
            sites=self._spec.sites,
            extra={"rows": self._plan.rows, **extra},
        )

    def release(self, number: int, blob: bytes) -> Reply:
        """Ask the refreshing hospital for the model after the last step."""
        reply = ask(
            self._grid,
            self._spec,
            "release",
            "release",
            wants="model",
            sites=(self.first,),
            number=number,
            kind="ciphertext",
            blobs=[blob],
            extra={"rows": self._plan.rows},
            expect={"layer0.weight": (1, self._plan.features - 1), "layer0.bias": (1,)},
        )[self.first]
        self._timed(reply)
        return reply


def _which_rows(plan: RecordsPlan, share: Mapping[str, int], patients: Mapping[str, int]) -> str:
    total = sum(patients.values())
    if plan.rows == total:
        return f"trained on all {total} training rows"
    parts = ", ".join(f"{site} {n}" for site, n in share.items())
    return f"trained on {plan.rows} of {total} training rows, drawn by the seed in proportion ({parts})"
