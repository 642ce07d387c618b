"""CKKS parameters, chosen for the job at 128-bit security and refused where headroom is missing.

Security: SEAL's table of the homomorphic encryption standard (Albrecht et al. 2018, ternary secrets, classical
attacks) bounds log2 of the whole modulus for each ring degree. Headroom: a coefficient of the encoded sum is at most
``scale * mean |slot|``, which must stay below q/2; beyond that a sum wraps round silently (three times 400 decrypts to
176 under a 40-bit q at scale 2^30), so such parameters can't be built here.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from pettoolkit.errors import BadInput

SECURITY_BITS = 128
MAX_MODULUS_BITS = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438}
"""Ring degree to the largest log2 of all primes together at 128 bits (SEAL's SEC_LEVEL tc128)."""

NOISE_SD = 3.2
"""Standard deviation of a coefficient's encryption noise (SEAL's default)."""

CONTROL_MAX = 1.5
"""Largest absolute value that one hospital puts into the control slot (count 1, check value below 1)."""

MAX_SITES = 65_535
DEFAULT_ROUNDS = 100
FLOODING_BITS = 30

# Bytes of a serialised coefficient by bits of its prime, measured (SEAL compresses the unused high bits away in part).
_COEFFICIENT_BYTES = {27: 4.26, 36: 5.6, 40: 6.04, 44: 6.65, 46: 6.8, 50: 7.24, 54: 7.61, 60: 8.03}

# Rings from small to large: degree, bits of the primes that carry a ciphertext, bits of SEAL's key-switching prime.
# (SEAL sets the last of several primes aside for key switching; additions need none, so that it can be small.)
_RINGS = (
    (1024, (27,), 0),
    (2048, (36,), 0),
    (2048, (40,), 0),
    (4096, (40,), 0),
    (2048, (46,), 0),
    (4096, (46,), 0),
    (2048, (54,), 0),
    (4096, (54,), 0),
    (4096, (60,), 0),
    (4096, (44, 44), 20),
    (8192, (60, 60), 60),
)
# With flooding one ring serves nearly every size, so that one key serves all cells of an experiment.
_FLOODED_RINGS = ((4096, (60,), 0), (4096, (44, 44), 20), (8192, (60, 60), 60))


@dataclass(frozen=True)
class Scheme:
    """How a vector of ``values`` reals in [-clip, clip] is encrypted so that ``sites`` of them can be added.

    Parameters
    ----------
    ring_degree
        N, a power of two; a ciphertext holds N reals, two of which are the control slot.
    prime_bits
        Bits of the primes whose product q carries a ciphertext.
    special_bits
        Bits of the prime that SEAL sets aside for key switching where there are several (0: none).
    scale_bits
        Values are multiplied by 2**scale_bits and rounded.
    values
        Length of the vector.
    clip
        Largest absolute value that one hospital encrypts.
    sites
        Most hospitals in one sum.
    flooding_bits
        Statistical bits for which the noise on released values is sized; 0: nothing decrypted may be released.
    tau
        Ciphertexts whose decryption may influence what is released (ciphertexts of a vector x rounds).

    Raises
    ------
    BadInput
        If the parameters are below 128-bit security, or the largest possible sum does not fit.
    """

    ring_degree: int
    prime_bits: tuple[int, ...]
    special_bits: int
    scale_bits: int
    values: int
    clip: float
    sites: int
    flooding_bits: int = 0
    tau: int = 0

    def __post_init__(self) -> None:
        _check_request(self.values, self.clip, self.sites)
        limit = MAX_MODULUS_BITS.get(self.ring_degree)
        if limit is None:
            raise BadInput(f"encryption: ring degree {self.ring_degree} is not one of {sorted(MAX_MODULUS_BITS)}")
        if not self.prime_bits or sum(self.all_prime_bits) > limit:
            raise BadInput(
                f"encryption: {sum(self.all_prime_bits)} modulus bits at ring degree {self.ring_degree} are below "
                f"{SECURITY_BITS}-bit security (at most {limit})"
            )
        if not 0 < self.scale_bits <= self.modulus_bits - 2:
            raise BadInput(
                f"encryption: scale 2^{self.scale_bits} is outside 2^1 to 2^{self.modulus_bits - 2}, which is all that "
                f"{self.modulus_bits} modulus bits can hold"
            )
        if self.headroom_bits <= 0:
            raise BadInput(
                f"encryption: the sum of {self.sites} hospitals x {self.clip:g} does not fit into "
                f"{self.modulus_bits} bits at scale 2^{self.scale_bits} ({-self.headroom_bits:.1f} bits short; "
                "it would wrap round silently): lower clip"
            )

    @property
    def all_prime_bits(self) -> tuple[int, ...]:
        """Bits of every prime, the special one last."""
        return self.prime_bits + ((self.special_bits,) if self.special_bits else ())

    @property
    def modulus_bits(self) -> int:
        """log2 of the modulus of a ciphertext, rounded up."""
        return sum(self.prime_bits)

    @property
    def scale(self) -> float:
        """Factor by which values are multiplied before rounding."""
        return 2.0**self.scale_bits

    @property
    def slots(self) -> int:
        """Complex slots of a ciphertext."""
        return self.ring_degree // 2

    @property
    def values_per_ciphertext(self) -> int:
        """Reals in a full ciphertext: two per slot, less the control slot."""
        return self.ring_degree - 2

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts of one vector."""
        return max(1, -(-self.values // self.values_per_ciphertext))

    @property
    def headroom_bits(self) -> float:
        """log2 of how often the largest possible sum fits into q/2; positive, or the scheme can't exist."""
        # SEAL's primes lie just below 2**bits: 0.01 bits more than covers the difference and the encryption noise.
        return self.modulus_bits - 1 - 0.01 - self.scale_bits - math.log2(_largest_coefficient(self))

    @property
    def error(self) -> float:
        """Bound (six standard deviations and float64 rounding) of the error of one value of a decrypted sum."""
        return _error(self.ring_degree, self.scale_bits, self.clip, self.sites)

    @property
    def flooding_sd(self) -> float:
        """Standard deviation of the noise on a released sum; 0 without flooding."""
        if not self.flooding_bits:
            return 0.0
        return flooding_sd(self.ring_degree, self.scale_bits, self.sites, self.tau, self.flooding_bits)

    @property
    def bytes_up(self) -> int:
        """About how many bytes one hospital sends: one polynomial and a seed per ciphertext."""
        return self.ciphertexts * (150 + math.ceil(self.ring_degree * _coefficient_bytes(self.prime_bits)))

    @property
    def bytes_down(self) -> int:
        """About how many bytes a sum takes: two polynomials per ciphertext."""
        return self.ciphertexts * (150 + 2 * math.ceil(self.ring_degree * _coefficient_bytes(self.prime_bits)))

    @property
    def ring(self) -> tuple[int, tuple[int, ...]]:
        """Ring degree and primes: what a secret key depends on."""
        return (self.ring_degree, self.all_prime_bits)

    @property
    def digest(self) -> bytes:
        """Eight bytes that name this scheme in the header of each ciphertext."""
        return hashlib.blake2b(json.dumps(self.to_dict(), sort_keys=True).encode(), digest_size=8).digest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        data = asdict(self)
        data["prime_bits"] = list(self.prime_bits)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scheme:
        """Inverse of :meth:`to_dict`; everything is checked again."""
        return cls(**{**data, "prime_bits": tuple(data["prime_bits"])})

    def add_context(self) -> bytes:
        """All that the coordinator gets: the parameters, under 200 bytes and without any key material."""
        fields = (
            self.ring_degree,
            list(self.prime_bits),
            self.special_bits,
            self.scale_bits,
            self.values,
            self.clip,
            self.sites,
            self.flooding_bits,
            self.tau,
        )
        return _CONTEXT_MAGIC + json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def from_add_context(cls, context: bytes) -> Scheme:
        """Inverse of :meth:`add_context`.

        Raises
        ------
        BadInput
            If the bytes are no context for additions.
        """
        if not context.startswith(_CONTEXT_MAGIC):
            raise BadInput("encryption: these bytes are no context for additions")
        try:
            degree, primes, *rest = json.loads(context[len(_CONTEXT_MAGIC) :])
            return cls(degree, tuple(primes), *rest)
        except (ValueError, TypeError) as error:
            raise BadInput(f"encryption: the context for additions is damaged ({error})") from None


_CONTEXT_MAGIC = b"PTKADD1"


def choose(
    values: int,
    clip: float,
    sites: int,
    flooding: bool | int = True,
    rounds: int = DEFAULT_ROUNDS,
    precision: float = 1e-6,
    flooding_tolerance: float = 1e-3,
) -> Scheme:
    """Pick the scheme with the fewest bytes that adds ``sites`` vectors of ``values`` reals in [-clip, clip].

    Parameters
    ----------
    values, clip, sites
        The job: length of the vector, largest absolute value of one hospital, most hospitals in a sum.
    flooding
        Leave room for noise on what is released: True (30 statistical bits), False (nothing decrypted is
        ever released), or the bits.
    rounds
        Sums decrypted under one key that influence a release.
    precision
        Largest error of one value of a decrypted sum, absolute.
    flooding_tolerance
        Largest standard deviation of the noise on a released sum, absolute.

    Raises
    ------
    BadInput
        If no parameters at 128-bit security do it; the line says what to change.
    """
    _check_request(values, clip, sites)
    if rounds < 1:
        raise BadInput(f"encryption: rounds must be at least 1 (got {rounds})")
    if precision <= 0 or flooding_tolerance <= 0:
        raise BadInput("encryption: precision and flooding_tolerance must be greater than 0")
    bits = FLOODING_BITS if flooding is True else int(flooding)
    if bits < 0:
        raise BadInput(f"encryption: flooding must not be negative (got {bits})")
    candidates = [_fit(ring, values, clip, sites, bits, rounds) for ring in (_FLOODED_RINGS if bits else _RINGS)]
    fitting = [
        scheme
        for scheme in candidates
        if scheme is not None and scheme.error <= precision and scheme.flooding_sd <= flooding_tolerance
    ]
    if not fitting:
        flooded = f", flooding noise below {flooding_tolerance:g} for {rounds} rounds" if bits else ""
        raise BadInput(
            f"encryption: no parameters at {SECURITY_BITS}-bit security leave headroom for {sites} hospitals x "
            f"{clip:g} with errors below {precision:g}{flooded}: lower clip, or allow larger errors"
        )
    return min(fitting, key=lambda scheme: scheme.bytes_up)


def flooding_sd(ring_degree: int, scale_bits: int, sites: int, tau: int, bits: int) -> float:
    """Size the noise: its standard deviation per coordinate of a released sum.

    ``sqrt(N) sqrt(12 tau) 2^(s/2) 3.2 sqrt(K) sqrt(N/2) / 2^scale``: noise sized for s statistical bits over tau
    decryptions (Li, Micciancio, Schultz, Sorrell 2022, CRYPTO) on the noise of a sum of K fresh ciphertexts.
    """
    of_sum = NOISE_SD * math.sqrt(sites) * math.sqrt(ring_degree / 2)
    return math.sqrt(ring_degree) * math.sqrt(12 * tau) * math.exp2(bits / 2) * of_sum / math.exp2(scale_bits)


def _fit(
    ring: tuple[int, tuple[int, ...], int], values: int, clip: float, sites: int, bits: int, rounds: int
) -> Scheme | None:
    degree, primes, special = ring
    tau = max(1, -(-values // (degree - 2))) * rounds if bits else 0
    # Start above any possible scale and let headroom decide.
    top = min(sum(primes) - 2, sum(primes) - 1 - math.floor(math.log2(sites * _slot_bound(degree, clip))))
    for scale_bits in (top, top - 1, top - 2):
        if scale_bits < 10:
            return None
        try:
            return Scheme(degree, primes, special, scale_bits, values, clip, sites, bits, tau)
        except BadInput:
            continue
    return None


def _slot_bound(ring_degree: int, clip: float) -> float:
    """Largest mean absolute slot of one hospital: data slots of at most sqrt(2) clip, and one control slot."""
    return math.sqrt(2.0) * clip + 2.0 * CONTROL_MAX / ring_degree


def _largest_coefficient(scheme: Scheme) -> float:
    # Coefficients are (2/N) times a real part of a sum of N/2 slots times roots of unity: at most the mean |slot|.
    return scheme.sites * _slot_bound(scheme.ring_degree, scheme.clip)


def _error(ring_degree: int, scale_bits: int, clip: float, sites: int) -> float:
    coefficient_sd = math.sqrt(sites * (NOISE_SD**2 + 1 / 12))
    noise = 6.0 * coefficient_sd * math.sqrt(ring_degree / 2) / 2.0**scale_bits
    # Encoding and decoding are FFTs in float64: log2(N) butterflies of relative error 2^-53 each.
    return noise + math.log2(ring_degree) * 2.0**-51 * sites * max(clip, 1.0)


def _coefficient_bytes(prime_bits: tuple[int, ...]) -> float:
    return float(sum(_COEFFICIENT_BYTES.get(bits, 8.03) for bits in prime_bits))


def _check_request(values: int, clip: float, sites: int) -> None:
    if values < 1:
        raise BadInput(f"encryption: at least one value is needed (got {values})")
    if not (math.isfinite(clip) and clip > 0):
        raise BadInput(f"encryption: clip must be a finite number greater than 0 (got {clip})")
    if not 1 <= sites <= MAX_SITES:
        raise BadInput(f"encryption: sites must be from 1 to {MAX_SITES} (got {sites})")
