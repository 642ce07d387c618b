"""Records are read out of updates of single patients, and not out of those of many, noise or ciphertexts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pettoolkit.attacks.insider.reconstruction import CLOSE, candidates, imprint, imprinted, read
from pettoolkit.attacks.models.ranked import weighted_auc
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.models.training import Rows, sgd_epochs
from pettoolkit.privacy.gradients import clipped_gradient_sum
from pettoolkit.privacy.noise import Draw, SeededNoise, add_gaussian

D = 30
LOGISTIC, MLP = DenseNet(D), DenseNet(D, (64,))


def patients(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(n, D, generator=draw) * 2 - 1, (torch.rand(n, generator=draw) < 0.3).float()


def share_read(net: DenseNet, size: int, tries: int = 10) -> float:
    """Share of records read from honest gradients of so many patients."""
    params, found = net.init(1, 0.3), []
    for i in range(tries):
        x, y = patients(size, i)
        found.append(read(candidates(net.gradient_sum(params, x, y)), x.double().numpy()).mean())
    return float(np.mean(found))


@pytest.mark.parametrize("net", [LOGISTIC, MLP], ids=["logistic", "mlp"])
def test_one_patients_gradient_is_the_record(net: DenseNet) -> None:
    x, y = patients(1)
    found = candidates(net.gradient_sum(net.init(1, 0.3), x, y))
    np.testing.assert_allclose(found, np.repeat(x.double().numpy(), len(found), axis=0), atol=1e-4)


@pytest.mark.parametrize("net", [LOGISTIC, MLP], ids=["logistic", "mlp"])
def test_local_steps_on_one_patient_give_the_record_too(net: DenseNet) -> None:
    x, y = patients(1)
    start = net.init(1, 0.3)
    trained = sgd_epochs(
        net,
        start,
        Rows(x, y),
        epochs=5,
        batch_size=1,
        learning_rate=0.1,
        proximal_mu=0.0,
        generator=torch.Generator().manual_seed(0),
    )
    changed: Params = {k: trained[k] - start[k] for k in start}
    assert read(candidates(changed), x.double().numpy()).all()


def test_batches_are_read_as_far_as_theory_says() -> None:
    # a unit is activated by one of n patients alone with probability n / 2^n: 64 units find all of 4, hardly one of 16
    assert share_read(MLP, 4) > 0.9
    assert share_read(MLP, 16) < 0.1
    assert share_read(MLP, 64) == 0.0
    assert share_read(LOGISTIC, 2) == 0.0


def test_a_malicious_imprint_layer_reads_many_of_a_large_batch() -> None:
    owned = patients(500, seed=99)[0].double().numpy()
    crafted, shares = imprint(MLP, owned), []
    for i in range(5):
        x, y = patients(64, i)
        shares.append(read(imprinted(MLP.gradient_sum(crafted, x, y)), x.double().numpy()).mean())
    # 64 patients in 64 bins: 37 % are alone in theirs
    assert 0.25 < np.mean(shares) < 0.5


def test_privacy_noise_hides_even_a_single_patient() -> None:
    x, y = patients(1)
    for net in (LOGISTIC, MLP):
        clipped = clipped_gradient_sum(net, net.init(1, 0.3), x, y, 1.0)
        noisy = add_gaussian(clipped, 5.0, SeededNoise(0, "a"), Draw("t"))
        assert not read(candidates(noisy), x.double().numpy()).any()


def test_ciphertexts_tell_nothing_of_whose_update_they_are() -> None:
    # 60 encryptions of each of two patients' updates: bytes as features, means of one half judge the other
    from pettoolkit.encryption import envelope
    from pettoolkit.encryption.ckks import encrypt
    from pettoolkit.encryption.keys import SecretKey
    from pettoolkit.encryption.parameters import choose

    vectors = [_vector(seed) for seed in (0, 1)]
    key = SecretKey.create(choose(len(vectors[0]), clip=1.0, sites=3))
    sealed = [[envelope.unseal(encrypt(key, v)[0])[1] for _ in range(60)] for v in vectors]
    length = min(len(blob) for blobs in sealed for blob in blobs)
    bytes_of = [np.array([np.frombuffer(b[:length], dtype=np.uint8) for b in blobs], dtype=float) for blobs in sealed]
    clear = [np.tile(np.frombuffer(v.astype(np.float32).tobytes(), dtype=np.uint8), (60, 1)) for v in vectors]
    assert abs(_told_apart(*bytes_of) - 0.5) < 4 * 0.075  # standard error of an AUC of 30 and 30
    assert _told_apart(*clear) == 1.0


def _vector(seed: int) -> np.ndarray:
    gradient = LOGISTIC.gradient_sum(LOGISTIC.init(1, 0.3), *patients(1, seed))
    return torch.cat([v.flatten() for v in gradient.values()]).double().numpy().clip(-1, 1)


def _told_apart(a: np.ndarray, b: np.ndarray) -> float:
    """AUC of the nearest of two means, learnt on the first half and judged on the second."""
    direction = a[:30].mean(0) - b[:30].mean(0)
    scores = np.concatenate([a[30:] @ direction, b[30:] @ direction])
    return float(weighted_auc(scores, np.arange(60) < 30, np.ones((60, 1)))[0])


def test_fresh_patients_are_met_by_no_candidate() -> None:
    x, y = patients(4)
    found = candidates(MLP.gradient_sum(MLP.init(1, 0.3), x, y))
    assert not read(found, patients(2000, seed=50)[0].double().numpy()).any()


def test_close_is_close() -> None:
    x = np.zeros((1, 3))
    assert read(np.array([[CLOSE, -CLOSE, 0.0]]), x).all()
    assert not read(np.array([[2 * CLOSE, 0.0, 0.0]]), x).any()
