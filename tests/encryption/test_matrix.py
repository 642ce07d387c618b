from __future__ import annotations

import numpy as np
import pytest

from pettoolkit.encryption.ckks import add, decrypt, encrypt
from pettoolkit.encryption.errors import OutOfRange
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.matrix import (
    NormalSums,
    linear_sums,
    logistic_sums,
    newton_step,
    packed_size,
    standard_errors,
)
from pettoolkit.encryption.parameters import choose
from pettoolkit.errors import BadInput

ROWS, FEATURES, SITES = 1200, 9, 3
RIDGE = np.array([0.0] + [1.0] * (FEATURES - 1))


@pytest.fixture(scope="module")
def pooled():
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (ROWS, FEATURES))
    x[:, 0] = 1.0
    y = (rng.random(ROWS) < 1 / (1 + np.exp(-x @ rng.normal(size=FEATURES)))).astype(int)
    return x, y


@pytest.fixture(scope="module")
def sums_key():
    return SecretKey.create(choose(packed_size(FEATURES), 1.0, SITES))


def encrypted_sum(key: SecretKey, parts: list[NormalSums]) -> NormalSums:
    """Each hospital encrypts its sums, the coordinator adds, a hospital decrypts."""
    blobs = [encrypt(key, part.pack(ROWS)) for part in parts]
    return NormalSums.unpack(decrypt(key, add(key.scheme.add_context(), blobs), len(parts)), FEATURES, ROWS)


def test_newton_on_encrypted_sums_is_pooled_logistic_regression(pooled, sums_key):
    from sklearn.linear_model import LogisticRegression

    x, y = pooled
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x[:, 1:], y)
    weights = np.zeros(FEATURES)

    for _ in range(6):
        parts = [logistic_sums(x[i::SITES], y[i::SITES], weights) for i in range(SITES)]
        total = encrypted_sum(sums_key, parts)
        weights = newton_step(total, weights, RIDGE)

    np.testing.assert_allclose(weights, [expected.intercept_[0], *expected.coef_[0]], atol=1e-3)
    assert total.rows == pytest.approx(ROWS, abs=1e-6)


def test_standard_errors_without_ridge_are_the_inverse_information(pooled):
    x, y = pooled
    sums = logistic_sums(x, y, np.zeros(FEATURES))

    np.testing.assert_allclose(
        standard_errors(sums, np.zeros(FEATURES)), np.sqrt(np.diag(np.linalg.inv(x.T @ x / 4))), rtol=1e-9
    )


def test_one_shot_is_pooled_ridge_regression(pooled, sums_key):
    x, y = pooled
    total = encrypted_sum(sums_key, [linear_sums(x[i::SITES], y[i::SITES]) for i in range(SITES)])

    weights = newton_step(total, np.zeros(FEATURES), RIDGE)

    np.testing.assert_allclose(weights, np.linalg.solve(x.T @ x + np.diag(RIDGE), x.T @ y), atol=1e-6)


def test_sums_survive_packing(pooled):
    x, y = pooled
    sums = linear_sums(x, y)

    back = NormalSums.unpack(sums.pack(ROWS), FEATURES, ROWS)

    assert sums.pack(ROWS).shape == (packed_size(FEATURES),)
    np.testing.assert_allclose(back.gram, sums.gram)
    np.testing.assert_allclose(back.moment, sums.moment)
    assert back.rows == ROWS


def test_rows_out_of_range_and_wrong_lengths_are_named(pooled):
    x, y = pooled

    with pytest.raises(OutOfRange, match="scale the features"):
        linear_sums(3 * x, y).pack(ROWS)
    with pytest.raises(BadInput, match="9 features"):
        NormalSums.unpack(np.zeros(7), FEATURES, ROWS)
