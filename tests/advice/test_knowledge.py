"""The rules: sourced, complete, and about technologies and answers that exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pettoolkit.advice.knowledge import FILE, Knowledge, knowledge
from pettoolkit.arms.registry import ARMS
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.errors import BadInput
from pettoolkit.hospital.envelope import KINDS


def changed(tmp_path: Path, **parts: object) -> Path:
    path = tmp_path / "knowledge.yaml"
    text = yaml.load(FILE.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    path.write_text(yaml.safe_dump(text | parts), encoding="utf-8")
    return path


def rule(**keys: object) -> dict[str, object]:
    return {"id": "x", "effect": "note", "because": "y", "sources": ["wp216"], **keys}


def test_every_technology_has_a_family_and_rules_name_what_exists() -> None:
    known = knowledge()
    assert {arm for arm in ARMS if known.family_of(arm) is None} == set()
    assert {arm for r in known.rules for arm in r.arms} <= set(ARMS)
    assert {kind for r in known.rules for kind in r.leaves} <= set(KINDS)
    assert known.family_of("another") is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rules": [rule(sources=[])]}, "rules"),
        ({"rules": [rule(when={"phase": ["yesterday"]})]}, "phase has no answer yesterday"),
        ({"rules": [rule(when={"weather": ["fine"]})]}, "weather"),
        ({"rules": [rule(sources=["hearsay"])]}, "hearsay"),
        ({"checklist": {}}, "checklist"),
        ({"maturity": {}}, "sources that are used"),
    ],
)
def test_a_rule_without_a_source_or_about_nothing_is_refused(
    parts: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        parse(Knowledge, changed(tmp_path, **parts))


def test_how_far_a_technology_is_rests_on_more_than_this_toolkits_own_word() -> None:
    for family, kinds in knowledge().maturity.items():
        for kind, found in kinds.items():
            others = set(found.sources) - {"threat_model"}
            assert others or found.level == "not measured here", f"{family}, {kind}"
