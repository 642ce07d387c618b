from __future__ import annotations

import torch

from pettoolkit.privacy.events import Identity, gaussian, input_hash, merged


def test_equal_mechanisms_are_counted_together() -> None:
    assert merged([gaussian(2.0), gaussian(3.0), gaussian(2.0, 4)]) == (gaussian(2.0, 5), gaussian(3.0))


def test_the_input_hash_sees_every_bit_name_shape_and_setting() -> None:
    weights = {"w": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([0.0])}
    same = {"b": torch.tensor([0.0]), "w": torch.tensor([[1.0, 2.0]])}
    others = [
        {**weights, "b": torch.tensor([-0.0])},
        {**weights, "b": torch.tensor([0.0], dtype=torch.float64)},
        {**weights, "w": torch.tensor([[1.0], [2.0]])},
        {"w": weights["w"], "c": weights["b"]},
    ]
    assert input_hash(weights, clip=1.0, round=3) == input_hash(same, round=3, clip=1.0)
    hashes = {input_hash(o, clip=1.0, round=3) for o in others} | {input_hash(weights, clip=0.5, round=3)}
    assert len(hashes | {input_hash(weights, clip=1.0, round=3)}) == 6


def test_the_slot_is_the_identity_without_its_input() -> None:
    one, two = Identity("r", "s", 1, "training", "a"), Identity("r", "s", 1, "training", "b")
    assert one.slot == two.slot != Identity("r", "s", 2, "training", "a").slot
