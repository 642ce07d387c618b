"""What needs no attack: raw records are read, ciphertexts and nothing tell nothing."""

from __future__ import annotations

from pettoolkit.attacks.insider.views import CIPHERTEXTS, NOTHING, RAW, HeldView
from pettoolkit.attacks.protocol import Effort, Exact, Finding, People, finding, register

SAID = {
    RAW: (1.0, "holds the records themselves"),
    CIPHERTEXTS: (0.0, "holds ciphertexts and no key: nothing to attack (128-bit security; argued, not measured)"),
    NOTHING: (0.0, "holds nothing of any patient"),
}


@register
class Held:
    """A figure for what is certain, so that it stands in the same list as what is measured."""

    name = "held"
    sees = HeldView
    knowledge = "none"

    def run(self, view: HeldView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        share, said = SAID[view.held]
        patients = len(set(people.members.patient.tolist()))
        evidence = Exact(share, patients=patients, achieved=patients)
        note = f"{view.holder} {said}"
        return [finding(self, view.held, evidence, wanted=patients, seconds=0.0, view=view.kind, note=note)]
