"""Lab 1: what the coordinator of a federation sees, in the clear, under encryption, and with a stolen key."""

import marimo

__generated_with = "0.25.2"

app = marimo.App(width="medium", app_title="Lab 1: what the coordinator sees")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # Lab 1: what the coordinator sees

        In federated learning no record leaves a hospital, only *updates* of a model. Here you are the coordinator:
        you read a patient out of an update; you meet encryption; and you steal the hospitals' key where
        exact sums were published.

        **Simulated:** the patients, the hospitals, the network. **Real:** the gradients, the ciphertexts (CKKS, the
        parameters of this toolkit), and the attacks.
        """
    )
    return (mo,)


@app.cell
def _():
    import numpy as np
    import torch

    from pettoolkit.attacks.insider.reconstruction import candidates, read
    from pettoolkit.cohort.features import encode, outcome
    from pettoolkit.experiment import lab
    from pettoolkit.models.dense import DenseNet

    cohort, contract = lab.simulated(stays=80)
    rows = cohort.hospitals["calder"].rows
    x = torch.from_numpy(encode(rows, contract))
    y = torch.from_numpy(outcome(rows, contract))
    net = DenseNet(x.shape[1], (64,))
    start = net.init(1, 0.06)
    return candidates, contract, lab, net, np, read, start, torch, x, y


@app.cell
def _(mo, x):
    batch = mo.ui.slider(1, min(32, len(x)), value=1, label="patients in the update", show_value=True)
    batch
    return (batch,)


@app.cell
def _(batch, candidates, contract, lab, mo, net, np, read, start, x, y):
    n = batch.value
    update = net.gradient_sum(start, x[:n], y[:n])
    found = candidates(update)
    patient = x[0].double().numpy()
    nearest = found[np.abs(found - patient).max(axis=1).argmin()]
    share = read(found, x[:n].double().numpy()).mean()
    _truth, _read = lab.decoded(patient, contract), lab.decoded(nearest, contract)
    print(f"update of {n} patient(s): {share:.0%} of the records read")
    mo.vstack(
        [
            mo.md(
                f"""
                ## 1. One update in the clear

                A dense layer's gradient for one patient is (error) x (input): weights divided by biases *are* the
                record. From this update of **{n}** patient(s) **{share:.0%}** of the records are read. Below: the first
                patient, beside what you computed from the update alone.
                """
            ),
            mo.ui.table(
                [{"value": k, "the patient": _truth[k], "read from the update": _read[k]} for k in _truth],
                selection=None,
                page_size=8,
            ),
        ]
    )
    return (update,)


@app.cell
def _(candidates, mo, net, np, read, start, torch, x, y):
    _rng = np.random.default_rng(0)
    shares = {}
    for _size in (1, 2, 4, 8, 16, 32):
        _tries = []
        for _ in range(10):
            _some = torch.from_numpy(_rng.permutation(len(x))[:_size])
            _seen = candidates(net.gradient_sum(start, x[_some], y[_some]))
            _tries.append(read(_seen, x[_some].double().numpy()).mean())
        shares[_size] = float(np.mean(_tries))
    mo.vstack(
        [
            mo.md("Records read from updates of so many patients (10 tries each):"),
            mo.ui.table([{"patients": k, "read": f"{v:.0%}"} for k, v in shares.items()], selection=None),
        ]
    )
    return


@app.cell
def _(np, update):
    from pettoolkit.encryption import ckks
    from pettoolkit.encryption.keys import SecretKey
    from pettoolkit.encryption.parameters import choose

    VALUES, HOSPITALS = 4094, 3  # one full ciphertext
    vector = np.concatenate([update[name].numpy().ravel() for name in ("layer0.weight", "layer0.bias")]).astype(float)
    padded = np.zeros(VALUES)
    padded[: len(vector)] = np.clip(vector, -1, 1)
    key = SecretKey.create(choose(VALUES, clip=1.0, sites=HOSPITALS, flooding=False))
    sealed = ckks.encrypt(key, padded, "round 3")
    return HOSPITALS, VALUES, ckks, key, padded, sealed, vector


@app.cell
def _(candidates, mo, net, np, read, sealed, torch, vector, x):
    _bytes = np.frombuffer(sealed[0], dtype=np.uint8)
    _guess = (_bytes[: len(vector)].astype(float) - 127.5) / 127.5
    _units = net.hidden[0]
    _weight = torch.from_numpy(_guess[: _units * net.n_features].reshape(_units, net.n_features))
    _bias = torch.from_numpy(_guess[_units * net.n_features :][:_units])
    _hits = read(candidates({"layer0.weight": _weight, "layer0.bias": _bias}), x.double().numpy()).sum()
    print(f"under CKKS: {_hits} records read")
    mo.md(
        f"""
        ## 2. The same update under CKKS

        Now you, the coordinator, hold a ciphertext of {sum(map(len, sealed)):,} bytes and no key. It begins
        `{sealed[0][100:124].hex()}`. The same attack on its bytes reads **{_hits}** records. You can still *add*
        ciphertexts, which is all that federated averaging asks of you; the hospitals decrypt the sum.
        """
    )
    return


@app.cell
def _(HOSPITALS, VALUES, ckks, key, np):
    import tenseal.sealapi as seal

    from pettoolkit.attacks.key_recovery import PublishedSum, intt, ntt, polynomials, real_slots_of, recover_key
    from pettoolkit.encryption import _seal, envelope
    from pettoolkit.encryption.flooding import flood

    def seen(blobs, published):
        """What you hold of one sum, and what the hospitals published of it."""
        _, payload = envelope.unseal(blobs[0])
        ring = _seal.ring(*key.scheme.ring)
        with _seal.scratch() as scratch:
            ciphertext = scratch.load(seal.Ciphertext(), ring, payload, "sum")
        c0, c1 = polynomials(ciphertext, key.scheme.ring_degree)
        prime = int(ring.context.first_context_data().parms().coeff_modulus()[0].value())
        real = real_slots_of(published, key.scheme.slots, HOSPITALS)
        return PublishedSum(c0, c1, real, key.scheme.scale, prime)

    def two_rounds(publish):
        """Two published sums of three hospitals, of which you keep the ciphertexts as well."""
        views = []
        for number in (1, 2):
            rng = np.random.default_rng(number)
            vectors = rng.normal(0, 0.1, (HOSPITALS, VALUES)).clip(-1, 1)
            label = f"round {number}"
            blobs = ckks.add(key.scheme.add_context(), [ckks.encrypt(key, v, label) for v in vectors])
            views.append(seen(blobs, publish(ckks.decrypt(key, blobs, HOSPITALS, label))))
        return recover_key(*views)

    stolen = two_rounds(lambda exact: exact)
    flooded = two_rounds(lambda exact: flood(exact, 1e-4))
    print(f"key from exact sums: {stolen is not None}; from flooded sums: {flooded is not None}")
    return flooded, intt, ntt, seen, stolen


@app.cell
def _(candidates, contract, flooded, intt, key, lab, mo, net, np, ntt, padded, sealed, seen, stolen, torch, x):
    from scipy.fft import ifft

    from pettoolkit.encryption.packing import from_slots

    _view = seen(sealed, padded)
    _p, _n = _view.prime, key.scheme.ring_degree
    _message = intt((_view.c0 + _view.c1 * ntt(stolen.astype(object) % _p, _p)) % _p, _p)
    _centred = np.where(_message > _p // 2, _message - _p, _message).astype(float)
    _values = ifft(np.concatenate([_centred, np.zeros(_n)])) * (2 * _n)
    _slots = _values[[pow(3, j, 2 * _n) for j in range(_n // 2)]] / key.scheme.scale
    _vector = from_slots(_slots, key.scheme.values_per_ciphertext)[0]
    _units = net.hidden[0]
    _weight = torch.from_numpy(_vector[: _units * net.n_features].reshape(_units, net.n_features))
    _bias = torch.from_numpy(_vector[_units * net.n_features :][:_units].copy())
    # units that the patient does not activate hold encryption noise only
    _loud = _bias.abs() > 1e-3 * _bias.abs().max()
    _found = candidates({"layer0.weight": _weight[_loud], "layer0.bias": _bias[_loud]})
    _patient = x[0].double().numpy()
    _read = lab.decoded(_found[np.abs(_found - _patient).max(axis=1).argmin()], contract)
    _off = np.abs(_found - _patient).max(axis=1).min()
    _names = list(_read)[:6]
    print(f"the patient read with the stolen key: largest error {_off:.4f} of a half range")
    mo.vstack(
        [
            mo.md(
                f"""
                ## 3. Steal the key

                The hospitals published two decrypted sums in full precision. You kept the ciphertexts. Each published
                sum is a linear equation for the secret key (Li and Micciancio 2021). With flooding **off** you solve
                them: key recovered, **{stolen is not None}**. With noise of 0.0001 on what is
                published (*flooding*): key recovered, **{flooded is not None}**. This toolkit floods whatever it
                publishes, and refuses to publish with parameters that leave no room for it.

                With the stolen key you decrypt the update of part 2 and read the patient again (exact where the update
                was of one patient; move the slider in part 1):
                """
            ),
            mo.ui.table(
                [{"value": k, "the patient": lab.decoded(_patient, contract)[k], "read": _read[k]} for k in _names],
                selection=None,
            ),
        ]
    )
    return


@app.cell
def _(lab, mo):
    mo.md(
        lab.questions(
            [
                "From how many patients on does reading an update fail, and why is that no guarantee? (Which attacker "
                "would still read single records?)",
                "Encryption took you out of it. Who can still read the sums of the updates, and what if one of them "
                "works together with you?",
                "Float32 sums do not give the key away to this attack either. Why is rounding no protection, and "
                "flooding one?",
            ]
        )
    )
    return


if __name__ == "__main__":
    app.run()
