"""Training in one place: repeatable, learns, keeps the best epoch, and FedProx pulls back."""

import torch

from pettoolkit.models.dense import DenseNet
from pettoolkit.models.seeding import derived_seed, torch_generator
from pettoolkit.models.training import (
    AdamSettings,
    Rows,
    adam,
    best,
    sgd_epochs,
    to_arrays,
    to_params,
    validation_losses,
)


def learnable(n: int, seed: int) -> Rows:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g)
    return Rows(x, (torch.rand(n, generator=g) < torch.sigmoid(2 * x[:, 0] - 1)).float())


def test_adam_is_repeatable_bit_for_bit_and_learns() -> None:
    net, rows = DenseNet(3, (4,)), learnable(500, 0)
    settings = AdamSettings(epochs=5, batch_size=64)

    runs = [adam(net, net.init(0), rows, settings, torch_generator(0, "order")) for _ in range(2)]

    assert all(torch.equal(runs[0][-1][k], runs[1][-1][k]) for k in runs[0][-1])
    assert net.loss(runs[0][-1], rows.x, rows.y) < net.loss(net.init(0), rows.x, rows.y) - 0.05


def test_adam_equals_torchs_adam_on_full_batches() -> None:
    net, rows = DenseNet(3), learnable(100, 1)
    settings = AdamSettings(epochs=4, batch_size=100, learning_rate=0.05, weight_decay=0.01)
    theirs = {k: v.clone().requires_grad_() for k, v in net.init(1).items()}
    optimiser = torch.optim.Adam(list(theirs.values()), lr=0.05, weight_decay=0.01)
    for _ in range(4):
        optimiser.zero_grad()
        net.loss(theirs, rows.x, rows.y).backward()
        optimiser.step()

    ours = adam(net, net.init(1), rows, settings, torch_generator(1))[-1]

    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value.detach(), rtol=1e-4, atol=1e-5)


def test_the_best_epoch_is_the_first_with_the_lowest_validation_loss() -> None:
    net = DenseNet(3)
    snapshots = [net.init(0, p) for p in (0.1, 0.2, 0.2)]

    assert best(snapshots, [3.0, 1.0, 1.0])[0] == 1


def test_validation_losses_are_sums_so_that_hospitals_add_up() -> None:
    net, rows = DenseNet(3), learnable(50, 2)
    halves = [Rows(rows.x[:20], rows.y[:20]), Rows(rows.x[20:], rows.y[20:])]
    model = [net.init(0, 0.3)]

    whole = validation_losses(net, model, rows)[0]

    assert abs(whole - sum(validation_losses(net, model, h)[0] for h in halves)) < 1e-4
    assert validation_losses(net, model, Rows(rows.x[:0], rows.y[:0])) == [0.0]


def test_fedprox_stays_nearer_to_where_it_began() -> None:
    net, rows = DenseNet(3), learnable(300, 3)
    start = net.init(0)

    def distance(mu: float) -> float:
        end = sgd_epochs(
            net, start, rows, epochs=3, batch_size=32, learning_rate=0.5, proximal_mu=mu, generator=torch_generator(0)
        )
        return float(sum(((end[k] - start[k]) ** 2).sum() for k in start))

    assert distance(1.0) < distance(0.0)


def test_parameters_survive_the_way_to_numpy_and_back() -> None:
    params = DenseNet(3, (2,)).init(0)

    back = to_params(to_arrays(params))

    assert all(torch.equal(params[k], back[k]) for k in params)


def test_labels_tell_streams_apart() -> None:
    seeds = {derived_seed(0, "a", 1), derived_seed(0, "a1"), derived_seed(1, "a", 1), derived_seed(0, "a", 2)}

    assert len(seeds) == 4
