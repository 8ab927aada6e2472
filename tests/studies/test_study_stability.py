"""stability: agreement and kept by hand, and the study at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_up_studies import TOY, results, verdict

from assay import studies
from assay.core.errors import BadOption
from assay.studies import stability


def test_agreement_matches_one_to_one_and_forgets_signs() -> None:
    a = torch.eye(4)[:3]
    b = torch.stack([-2 * a[2], a[0], torch.tensor([0.0, 0.6, 0.0, 0.8])])
    assert stability.agreement(a, b) == pytest.approx((1 + 1 + 0.6) / 3)
    assert stability.agreement(a, torch.stack([a[0], a[0], a[0]])) == pytest.approx(1 / 3)  # one partner each
    assert stability.agreement(a, a[:0]) == 0.0


def test_kept_is_the_share_with_a_near_twin() -> None:
    narrow = torch.eye(3)
    wide = torch.stack([3 * narrow[0], -narrow[1], torch.tensor([0.0, 0.5, 0.8])])  # cosine .85 with the third
    assert stability.kept(narrow, wide) == pytest.approx(2 / 3)
    assert stability.kept(narrow[:0], wide) == 0.0


@pytest.mark.parametrize(
    ("word", "expected"), [("beats", "reproduced"), ("ties", "not reproduced"), ("no signal", "cannot be told here")]
)
def test_the_claim_of_stability(word: str, expected: str) -> None:
    found = results(
        verdict(word, arm="archetypal", metric="agreement"), verdict("loses", arm="archetypal", metric="kept")
    )
    assert stability.claim_about(found).word == expected


def test_features_are_known_from_the_text_that_is_measured() -> None:
    assert stability.Options().known_kind == "story"
    assert stability.Options(text="storyworld:300").known_kind == "story"
    assert stability.Options(known="text").known_kind == "text"
    assert stability.Options(heldout="other.jsonl").known_kind == "text"


def test_one_seed_agrees_with_nobody() -> None:
    with pytest.raises(BadOption, match="--seeds is 1"):
        stability.Options(seeds=1)


@pytest.mark.slow
def test_stability_at_toy_size(tmp_path: Path) -> None:
    asked = stability.Options(
        **(TOY | {"seeds": 5, "archs": ("archetypal",), "k": (4, 8), "n_tokens": 4096, "max_documents": 60})
    )
    found = studies.run("stability", asked, tmp_path / "s", quiet=True)
    roles = {o.arm: o.role for o in found.results.outcomes}
    assert roles == {"topk": "baseline", "relu": "baseline", "archetypal": "method", "random": "control"}
    values = [o for o in found.results.outcomes if o.metric in ("agreement", "kept")]
    assert all(o.value is not None and 0 <= o.value <= 1 and o.n_seeds == 5 for o in values)
    assert {v.metric for v in found.results.verdicts} >= {"agreement", "kept"}
    known = {o.metric for o in found.results.outcomes} & {
        "split",
        "absorbed",
        "one-latent",
        "split-wide",
        "absorbed-wide",
    }
    assert len(known) == 5
    shares = [o.value for o in found.results.outcomes if o.metric.startswith("absorbed")]
    assert all(value is not None and 0 <= value <= 1 for value in shares)
    assert {"split", "absorbed", "absorbed-width", "one-latent"} <= {panel.name for panel in found.panels}
    again = studies.run("stability", asked, tmp_path / "s", quiet=True)
    assert again.tables == found.tables, "read back from what was kept"
    assert "5 seeds" in found.claim.sentence
