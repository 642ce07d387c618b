"""Encrypted aggregation: the coordinator adds ciphertexts. It holds no key, so it can do nothing else."""

from __future__ import annotations

import time

import numpy as np

from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted_aggregation.scheme import scheme_of
from pettoolkit.arms.exchange import ask
from pettoolkit.encryption.ckks import Adder
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Cost, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="no hospital colludes with the coordinator; all hospitals share one secret key",
    leaks_if_collude="the coordinator and any one hospital together can read every hospital's update",
    reversible="ciphertexts: by whoever holds the hospitals' key; the released model: as any model",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Rounds of: collect ciphertexts, add, hand the sum back; then one hospital releases the best round's model."""
    began = time.perf_counter()
    scheme, layout = scheme_of(spec, contract_of(spec))
    context = scheme.add_context()
    counts = ask(grid, spec, "count", "setup", wants="metrics", sites=spec.sites)
    patients = int(sum(reply.figures["num-examples"] for reply in counts.values()))
    losses: list[float] = []
    seconds = {"encrypt": 0.0, "add": 0.0, "decrypt": 0.0}
    up = down = 0
    for number in range(1, int(spec.options["rounds"]) + 1):
        replies = ask(
            grid,
            spec,
            "contribute",
            "training",
            wants="ciphertext",
            sites=spec.sites,
            number=number,
            extra={"patients": patients},
        )
        added = time.perf_counter()
        adder = Adder(context)
        for site, reply in replies.items():
            adder.add(reply.blobs, site)
        total = adder.result()
        seconds["add"] += time.perf_counter() - added
        applied = ask(
            grid,
            spec,
            "apply",
            "validation",
            wants="metrics",
            sites=spec.sites,
            number=number,
            kind="ciphertext",
            blobs=total,
        )
        up, down = (max(len(b"".join(r.blobs)) for r in replies.values()), len(b"".join(total)))
        seconds["encrypt"] += max(r.figures["encrypt_seconds"] for r in replies.values())
        seconds["decrypt"] += max(r.figures["decrypt_seconds"] for r in applied.values())
        losses.append(
            sum(r.figures["loss"] for r in applied.values())
            / max(1.0, sum(r.figures["num-examples"] for r in applied.values()))
        )
    best = int(np.argmin(losses)) + 1
    first = min(spec.sites)
    released = ask(
        grid,
        spec,
        "release",
        "release",
        wants="model",
        sites=(first,),
        extra={"best": best, "patients": patients},
        expect=dict(zip(layout.names, layout.shapes, strict=True)),
    )
    return Outcome(
        models=Models({Models.SHARED: Weights.of(released[first].arrays)}),
        privacy=PRIVACY,
        exposure=grid.exposure(out_of_band=("keys",)),
        cost=Cost(
            time.perf_counter() - began,
            extra={
                "cost/ciphertext_expansion": up / (4 * scheme.values),
                "cost/ciphertext_expansion_down": down / (4 * scheme.values),
                "cost/encrypt_seconds": seconds["encrypt"],
                "cost/add_seconds": seconds["add"],
                "cost/decrypt_seconds": seconds["decrypt"],
            },
        ),
        rounds=len(losses),
        round_metrics={"round/validation_loss": tuple(losses)},
        encryption={
            "encryption/headroom_bits": scheme.headroom_bits,
            "encryption/flooding_sd": scheme.flooding_sd,
            "encryption/security_bits": 128.0,
            "encryption/max_error": scheme.error,
        },
        notes=(f"round {best} of {len(losses)} kept; released by hospital {first} with flooding noise",),
    )
