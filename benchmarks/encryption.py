"""What encrypting a model update costs: ours beside the usual ways to use TenSEAL, in one call.

    python benchmarks/encryption.py [--json FILE] [--repeat 5] [--sites 3] [--growth] [--huge]

The headline case ``mlp-41-437-186-1`` is the update of one network: the compact feature set, two hidden layers, 100,009
parameters in six tensors. Variants run interleaved. ``tenseal_tutorial`` is the public-key CKKS of TenSEAL's tutorials
(8192, [60, 40, 40, 60], 2^40), ``tenseal_nvflare`` NVFlare's default parameters (8192, [60, 40, 40], 2^40), both by
``ts.ckks_vector``, cut to the slot count; ``nvflare`` is NVFlare's own classes and serialisation, if it is installed
(extra ``bench``). It sends TenSEAL's context with every tensor, so what it costs depends on the network: cases
``tensors-N`` are the same 100,009 numbers in N tensors. Ours is one vector whatever the network. Ours leaves room for
flooding. Expansion is against float32; seconds are the median of the repeats. ``records-2048x16`` is one iteration of
training on encrypted rows, ``scoring-4000x41`` the scoring of new patients.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pettoolkit.encryption import scoring
from pettoolkit.encryption.ckks import Adder, decrypt, encrypt
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import choose
from pettoolkit.encryption.records import (
    RecordsPlan,
    encrypt_rows,
    encrypt_weights,
    evaluation_keys,
    plain_step,
    refresh,
)
from pettoolkit.encryption.records_trainer import RecordsTrainer

NETWORK = (41, 437, 186, 1)
"""Inputs (the compact feature set), two hidden layers and the output of the headline case."""

OTHER_CUTS = (1, 4, 8, 16)
"""Numbers of tensors in which the same parameters are sent beside it."""

CLIP = 1.0
Row = dict[str, Any]
Tensors = tuple[int, ...]
"""Sizes of a network's tensors, in order."""
Blobs = list[bytes]


class Ours:
    """pettoolkit.encryption with room for flooding."""

    name = "ours"

    def __init__(self, tensors: Tensors, sites: int) -> None:
        values = sum(tensors)
        self.scheme = choose(values, CLIP, sites)
        self.key = SecretKey.create(self.scheme)
        self.key.native()

    def encrypt(self, vector: np.ndarray) -> Blobs:
        """Encrypt one hospital's update."""
        return encrypt(self.key, vector)

    def add(self, updates: list[Blobs]) -> Blobs:
        """Add what the hospitals sent, without a key."""
        adder = Adder(self.scheme.add_context())
        for blobs in updates:
            adder.add(blobs)
        return adder.result()

    def decrypt(self, blobs: Blobs, sites: int) -> np.ndarray:
        """Decrypt the sum at one hospital."""
        return decrypt(self.key, blobs, sites)


class TensealVectors:
    """TenSEAL's high-level vectors with a public key, one per chunk of slots."""

    degree, primes, scale_bits = 8192, [60, 40, 40, 60], 40
    name = "tenseal_tutorial"

    def __init__(self, tensors: Tensors, sites: int) -> None:
        import tenseal as ts

        self.context = ts.context(ts.SCHEME_TYPE.CKKS, self.degree, coeff_mod_bit_sizes=self.primes)
        self.context.global_scale = 2**self.scale_bits
        self.server = ts.context_from(self.context.serialize(save_secret_key=False))

    def encrypt(self, vector: np.ndarray) -> Blobs:
        """Encrypt one hospital's update."""
        import tenseal as ts

        size = self.degree // 2
        return [
            ts.ckks_vector(self.context, vector[i : i + size].tolist()).serialize() for i in range(0, len(vector), size)
        ]

    def add(self, updates: list[Blobs]) -> Blobs:
        """Add what the hospitals sent, without a key."""
        import tenseal as ts

        sums = []
        for chunk in zip(*updates, strict=True):
            total = ts.ckks_vector_from(self.server, chunk[0])
            for blob in chunk[1:]:
                total += ts.ckks_vector_from(self.server, blob)
            sums.append(total.serialize())
        return sums

    def decrypt(self, blobs: Blobs, sites: int) -> np.ndarray:
        """Decrypt the sum at one hospital."""
        import tenseal as ts

        return np.concatenate([ts.ckks_vector_from(self.context, blob).decrypt() for blob in blobs])


class NvflareParameters(TensealVectors):
    """The same with NVFlare's default parameters."""

    primes = [60, 40, 40]  # noqa: RUF012 - a constant of a throw-away class
    name = "tenseal_nvflare"


def tensors_of(network: tuple[int, ...]) -> Tensors:
    """Sizes of weights and biases of a dense network, layer by layer."""
    return tuple(n for a, b in itertools.pairwise(network) for n in (a * b, b))


def even_cut(values: int, tensors: int) -> Tensors:
    """Sizes of so many equal tensors (the last one takes the rest)."""
    return (*[values // tensors] * (tensors - 1), values - values // tensors * (tensors - 1))


def rivals() -> list[Any]:
    """NVFlare's classes, or nothing and the reason."""
    if importlib.util.find_spec("nvflare") is None:
        print("nvflare: skipped, it is not installed (pip install -e .[bench])", file=sys.stderr)
        return []
    from rivals.nvflare_classes import NvflareClasses

    return [NvflareClasses]


def compare(case: str, tensors: Tensors, sites: int, repeat: int, makes: list[Any]) -> list[Row]:
    """One round of each variant, ours first, interleaved and repeated, on the same vectors."""
    vectors = list(np.random.default_rng(0).uniform(-CLIP, CLIP, (sites, sum(tensors))))
    exact = np.sum(vectors, axis=0)
    variants: list[Any] = [make(tensors, sites) for make in makes]
    found: dict[str, dict[str, list[float]]] = {v.name: {} for v in variants}
    for _ in range(repeat):
        for variant in variants:
            for metric, value in one_round(variant, vectors, exact).items():
                found[variant.name].setdefault(metric, []).append(value)
    rows = [
        row(case, name, metric, statistics.median(several))
        for name, metrics in found.items()
        for metric, several in metrics.items()
    ]
    ours = variants[0].scheme
    rows += [row(case, "ours", "flooding_sd", ours.flooding_sd), row(case, "ours", "headroom_bits", ours.headroom_bits)]
    for name in [name for name in found if name != "ours"]:
        for metric in RATIOS:
            theirs, mine = statistics.median(found[name][metric]), statistics.median(found["ours"][metric])
            rows.append(row(case, name, f"ratio_{metric}", theirs / mine))
    return rows


def one_round(variant: Any, vectors: list[np.ndarray], exact: np.ndarray) -> dict[str, float]:
    """Encrypt at each hospital, add, decrypt at one; seconds of one client and of the server, bytes, error."""
    encrypting, updates = timed(lambda: [variant.encrypt(vector) for vector in vectors])
    adding, total = timed(lambda: variant.add(updates))
    decrypting, decrypted = timed(lambda: variant.decrypt(total, len(vectors)))
    plain_bytes = 4 * len(exact)
    return {
        "expansion_up": sum(map(len, updates[0])) / plain_bytes,
        "expansion_down": sum(map(len, total)) / plain_bytes,
        "seconds_client": encrypting / len(vectors) + decrypting,
        "seconds_encrypt": encrypting / len(vectors),
        "seconds_decrypt": decrypting,
        "seconds_server": adding,
        "max_error": float(np.abs(decrypted[: len(exact)] - exact).max()),
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that ``work`` took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def growth(sizes: list[int], hospitals: list[int]) -> list[Row]:
    """Ours by parameters (3 hospitals) and by hospitals (1e5 parameters); each coordinator in a process of its own."""
    rows: list[Row] = []
    for values, sites in [(n, 3) for n in sizes] + [(100_000, k) for k in hospitals]:
        case = f"growth-{values}x{sites}"
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            metrics = pool.apply(coordinator, (values, sites))
        rows += [row(case, "ours", metric, value) for metric, value in metrics.items()]
    return rows


def coordinator(values: int, sites: int) -> dict[str, float]:
    """Add ``sites`` updates as they come and say what it took; the same ciphertexts stand for each hospital's."""
    scheme = choose(values, CLIP, sites)
    key = SecretKey.create(scheme)
    encrypting, update = timed(lambda: encrypt(key, np.zeros(values)))
    process = psutil.Process()
    adder = Adder(scheme.add_context())
    resident = [process.memory_info().rss]
    adding = 0.0
    for _ in range(sites):
        adding += timed(lambda: adder.add(update))[0]
        resident.append(process.memory_info().rss)
    total = adder.result()
    decrypting, _ = timed(lambda: decrypt(key, total, sites))
    return {
        "expansion_up": sum(map(len, update)) / (4 * values),
        "seconds_client": encrypting + decrypting,
        "seconds_server": adding,
        "rss_mb": (max(resident) - resident[0]) / 2**20,
    }


def records(rows: int, features: int, iterations: int) -> list[Row]:
    """Training on encrypted rows: seconds of a step at the coordinator and of a refresh at a hospital, bytes, error."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (rows, features)), rng.integers(0, 2, rows)
    plan = RecordsPlan(rows, features, 2.0, 1)
    key = SecretKey.create(plan.scheme())
    public = evaluation_keys(key, plan)
    trainer = RecordsTrainer(plan.to_bytes(), public)
    uploads = encrypt_rows(key, plan, x, y, 0)
    trainer.add_rows(uploads, "all")
    weights = plain = np.zeros(features)
    blob = encrypt_weights(key, plan, weights)
    stepping: list[float] = []
    refreshing: list[float] = []
    for _ in range(iterations):
        start = time.perf_counter()
        returned = trainer.step(blob)
        middle = time.perf_counter()
        weights = refresh(key, plan, returned, weights).weights
        blob = encrypt_weights(key, plan, weights)
        stepping.append(middle - start)
        refreshing.append(time.perf_counter() - middle)
        plain = plain_step(plan, x, y, plain)
    found = {
        "seconds_server": statistics.median(stepping),
        "seconds_client": statistics.median(refreshing),
        "seconds": statistics.median(np.add(stepping, refreshing).tolist()),
        "expansion_up": sum(map(len, uploads.values())) / (4 * x.size),
        "mb_evaluation_keys": sum(map(len, public)) / 1e6,
        "mb_weights_up": len(blob) / 1e6,
        "mb_weights_down": len(returned) / 1e6,
        "max_error": float(np.abs(weights - plain).max()),
    }
    return [row(f"records-{rows}x{features}", "ours", metric, value) for metric, value in found.items()]


RATIOS = ("expansion_up", "expansion_down", "seconds_client", "seconds_server")
"""How many times more than ours the others take."""


def scoring_patients(patients: int, features: int) -> list[Row]:
    """Scoring encrypted patients: seconds of the patients' side and of the scoring side, bytes, error of a logit."""
    rng = np.random.default_rng(0)
    x, weights = rng.uniform(-1, 1, (patients, features)), rng.normal(size=features)
    key = SecretKey.create(scoring.scheme())
    key.native()
    encrypting, groups = timed(lambda: scoring.encrypt_patients(key, x))
    serving, answers = timed(lambda: scoring.score_all(groups, weights, -3.0))
    decrypting, parts = timed(lambda: [scoring.decrypt_logits(key, answer) for answer in answers])
    found = {
        "seconds_client": encrypting + decrypting,
        "seconds_server": serving,
        "expansion_up": sum(len(blob) for group in groups for blob in group) / (4 * x.size),
        "expansion_down": sum(map(len, answers)) / (4 * patients),
        "max_error": float(np.abs(np.concatenate(parts) - (x @ weights - 3.0)).max()),
    }
    return [row(f"scoring-{patients}x{features}", "ours", metric, value) for metric, value in found.items()]


UNITS = {
    "ratio": "x ours",
    "expansion": "x float32",
    "seconds": "s",
    "max_error": "absolute",
    "rss": "MB",
    "mb": "MB",
    "flooding": "sd",
    "headroom": "bits",
}


def row(case: str, variant: str, metric: str, value: float) -> Row:
    """One row of the table that all benchmarks share."""
    unit = UNITS[next(prefix for prefix in UNITS if metric.startswith(prefix))]
    return {"benchmark": "encryption", "case": case, "variant": variant, "metric": metric, "value": value, "unit": unit}


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of encrypting a model update.")
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--growth", action="store_true", help="also 1e3 to 1e6 parameters, 2 to 100 hospitals")
    parser.add_argument("--huge", action="store_true", help="growth up to 1e7 parameters")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    network, others = tensors_of(NETWORK), rivals()
    case = "mlp-" + "-".join(map(str, NETWORK))
    rows = compare(case, network, options.sites, options.repeat, [Ours, TensealVectors, NvflareParameters, *others])
    for tensors in OTHER_CUTS if others else ():
        cut = even_cut(sum(network), tensors)
        rows += compare(f"tensors-{tensors}", cut, options.sites, options.repeat, [Ours, *others])
    rows += records(2048, 16, iterations=5) + scoring_patients(4000, 41)
    if options.growth or options.huge:
        rows += growth([10**i for i in range(3, 8 if options.huge else 7)], [2, 5, 20, 50, 100])
    for r in rows:
        print(f"{r['case']:22} {r['variant']:18} {r['metric']:22} {r['value']:12.4g} {r['unit']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
