"""What a table's differential privacy leaves room for, beside each measured figure.

An attack on one patient is a test of "the table was made with this patient": it succeeds with him or her at most
``e^epsilon`` times as often as without, plus delta (Dwork and Roth 2014, definition 2.4), and likewise with failures
(Kairouz, Oh and Viswanath 2015, arXiv:1311.0776). Patients of the same population who were not used show how often it
succeeds without. It does not hold for attacks on nobody in particular (singling out), nor for class sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pettoolkit.attacks.protocol import Finding, Hits


def most(control: float, epsilon: float, delta: float) -> float:
    """Highest success on patients who were used, given the success on those who were not."""
    grow = math.exp(min(epsilon, 700.0))  # e^700 is as good as infinite, and still a float
    return min(1.0, grow * control + delta, 1 - (1 - delta - control) / grow)


def bounded(findings: Sequence[Finding], epsilon: float, delta: float) -> list[Finding]:
    """The same findings with the bound of the guarantee, where it applies."""
    return [
        replace(f, figure=replace(f.figure, bound=most(f.figure.control, epsilon, delta)))
        if isinstance(f.evidence, Hits) and f.figure.knowledge != "none"
        else f
        for f in findings
    ]
