"""NVFlare's own encryptor, aggregator and decryptor, with its default parameters and its own serialisation.

Needs ``pip install pettoolkit[bench]``. The classes are those that an NVFlare job with homomorphic encryption runs at
its clients and its server; between them objects travel through NVFlare's ``fobs``, which sends TenSEAL's context with
every tensor. What NVFlare's network adds is not counted.
"""

from __future__ import annotations

import contextlib
import io
import logging
from typing import Any

import numpy as np

Blobs = list[bytes]
CONTEXT_FILES = {"client": True, "server": False}


class NvflareClasses:
    """One round of NVFlare: encrypt per layer at the client, aggregate at the server, decrypt at the client."""

    name = "nvflare"

    def __init__(self, tensors: tuple[int, ...], sites: int) -> None:
        logging.disable(logging.CRITICAL)  # the classes log every layer, and that no engine hears their events
        from nvflare.app_opt.he.model_decryptor import HEModelDecryptor
        from nvflare.app_opt.he.model_encryptor import HEModelEncryptor

        self.tensors, self.sites = tensors, sites
        client, server = contexts()
        self.server_context = server
        self.encryptor, self.decryptor = HEModelEncryptor(), HEModelDecryptor()
        self.encryptor.tenseal_context = self.decryptor.tenseal_context = client
        self.encryptor.encrypt_layers = [True]  # what START_RUN sets: all layers
        self._sent = 0

    def encrypt(self, vector: np.ndarray) -> Blobs:
        """Encrypt one hospital's update, layer by layer, and serialise it as NVFlare does."""
        from nvflare.apis.dxo import DXO, DataKind, MetaKey
        from nvflare.fuel.utils import fobs

        update = DXO(DataKind.WEIGHT_DIFF, data=named(vector, self.tensors), meta={MetaKey.NUM_STEPS_CURRENT_ROUND: 1})
        with contextlib.redirect_stdout(io.StringIO()):  # TenSEAL prints that a layer takes several ciphertexts
            encrypted = self.encryptor.process_dxo(update, None, context("client"))
        return [fobs.dumps(encrypted.to_shareable())]

    def add(self, updates: list[Blobs]) -> Blobs:
        """Aggregate what the hospitals sent; the weighted mean, so that the sum is found by multiplying again."""
        from nvflare.apis.event_type import EventType
        from nvflare.apis.fl_constant import ReservedKey
        from nvflare.app_common.app_constant import AppConstants
        from nvflare.app_opt.he.intime_accumulate_model_aggregator import HEInTimeAccumulateWeightedAggregator
        from nvflare.fuel.utils import fobs

        aggregator = HEInTimeAccumulateWeightedAggregator()
        server = context("server")
        aggregator.handle_event(EventType.START_RUN, server)
        server.set_prop(AppConstants.CURRENT_ROUND, 0, private=True, sticky=False)
        for number, blobs in enumerate(updates):
            shareable = fobs.loads(blobs[0])
            shareable.set_peer_props({ReservedKey.IDENTITY_NAME: f"site-{number}"})
            shareable.add_cookie(AppConstants.CONTRIBUTION_ROUND, 0)
            if not aggregator.accept(shareable, server):
                raise RuntimeError("NVFlare's aggregator did not accept an update")
        return [fobs.dumps(aggregator.aggregate(server))]

    def decrypt(self, blobs: Blobs, sites: int) -> np.ndarray:
        """Decrypt the mean at one hospital and return the sum."""
        from nvflare.apis.dxo import from_shareable
        from nvflare.fuel.utils import fobs

        shareable = fobs.loads(blobs[0])
        decrypted = self.decryptor.process_dxo(from_shareable(shareable), shareable, context("client"))
        return sites * np.concatenate([np.asarray(layer) for layer in decrypted.data.values()])


def named(vector: np.ndarray, tensors: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The vector as tensors of these sizes."""
    parts = np.split(vector, np.cumsum(tensors)[:-1])
    return {f"tensor{number}": part for number, part in enumerate(parts)}


def contexts() -> tuple[Any, Any]:
    """The client's and the server's TenSEAL context, as NVFlare's HEBuilder makes them by default (2.9)."""
    import tenseal as ts

    made = ts.context(
        ts.SCHEME_TYPE.CKKS,
        poly_modulus_degree=8192,
        coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )
    made.generate_relin_keys()
    made.global_scale = 2**40
    return tuple(  # type: ignore[return-value]
        ts.context_from(
            made.serialize(save_public_key=holds, save_secret_key=holds, save_galois_keys=False, save_relin_keys=True)
        )
        for holds in CONTEXT_FILES.values()
    )


def context(name: str) -> Any:
    """An NVFlare context in which a peer is known."""
    from nvflare.apis.fl_constant import ReservedKey
    from nvflare.apis.fl_context import FLContext

    peer, own = FLContext(), FLContext()
    peer.set_prop(ReservedKey.IDENTITY_NAME, name, private=False, sticky=False)
    own.set_peer_context(peer)
    return own
