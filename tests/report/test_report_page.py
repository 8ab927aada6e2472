"""The page stands alone, closes what it opens, escapes what it is given, and says what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import ARMS, NO_MODEL
from made_up_files import save
from reading import Element, read

from assay.core.errors import BadInput, Corrupt, NotFound
from assay.core.outcome import Results
from assay.report import build
from assay.report.saved import load

Page = tuple[Results, str]


def every(element: Element) -> list[Element]:
    return [e for child in element.children if isinstance(child, Element) for e in (child, *every(child))]


def test_nothing_is_fetched(three_seeds: Page) -> None:
    tree = read(three_seeds[1])
    for element in every(tree):
        assert element.name not in ("script", "link", "img", "iframe", "object", "embed", "base", "form"), element.name
        for key, value in element.attributes.items():
            assert not key.startswith("on"), f"{element.name} {key}"
            if key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert value.startswith("#"), f"{element.name} {key}={value}"
    style = "".join(e.text for e in tree.all("style"))
    assert "@import" not in three_seeds[1]
    assert not re.search(r"url\((?!#)", three_seeds[1])
    assert "@media print" in style
    assert "prefers-color-scheme:dark" in style


def test_every_inner_link_has_a_target_and_no_id_is_used_twice(three_seeds: Page) -> None:
    elements = every(read(three_seeds[1]))
    ids = [e.attributes["id"] for e in elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    wanted = {e.attributes["href"][1:] for e in elements if e.attributes.get("href", "").startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", three_seeds[1]))
    assert wanted <= set(ids)


def test_tokens_of_models_reach_the_page_as_text(one_seed: Page) -> None:
    tree = read(one_seed[1])
    assert "<script" not in one_seed[1]
    texts = [e.text for e in tree["contexts"].all("span", "text")]
    assert any("<script>alert(1)</script>" in text for text in texts)
    assert any("&amp;" in text for text in texts), "an ampersand of the text must survive as it was"
    assert any("↵" in text and "⇥" in text and "∅" in text and "\\u0000" in text for text in texts)


def test_names_given_by_the_user_are_escaped(page: Callable[..., str]) -> None:
    import dataclasses

    arms = [dataclasses.replace(arm, name=f"{arm.name}<img src=x onerror=y>") for arm in ARMS]
    text = page("a<b>&c", arms=arms, judged=False)
    assert "<img" not in text
    assert "a<b>" not in text
    tree = read(text)
    assert any("gated<img src=x onerror=y>" in e.text for e in tree.all("th"))


def test_strength_of_a_token_follows_its_activation(one_seed: Page) -> None:
    shaded = read(one_seed[1])["contexts"].all("b")
    strengths = [(int(e.attributes["class"][1]), float(e.attributes["title"].replace("−", "-"))) for e in shaded
                 if "title" in e.attributes]  # fmt: skip
    assert max(s for s, _ in strengths) == 9
    signs = {e.attributes["class"][0] for e in shaded if e.attributes.get("title", "").startswith("−")}
    assert signs == {"n"}
    assert all(s == max(1, min(9, round(9 * abs(v) / 6.0))) for s, v in strengths)


def test_colours_of_pictures_come_from_the_theme(one_seed: Page) -> None:
    pictures = [e for e in read(one_seed[1]).all("svg") if e.attributes.get("role") == "img"]
    assert len(pictures) == 2 + 1 + 5 + 2  # fidelity, γ, five arms' frequencies, two along training
    for svg in pictures:
        assert svg.attributes["aria-label"]
        inside = " ".join(e.attributes.get("style", "") for e in every(svg))
        assert "var(--" in inside
        assert not re.search(r"#[0-9a-f]{6}", inside), re.findall(r"#[0-9a-f]{6}", inside)


def test_the_page_is_small(three_seeds: Page) -> None:
    assert len(three_seeds[1].encode()) < 1_000_000


def test_pictures_are_written_beside_the_page(tmp_path: Path) -> None:
    save(tmp_path / "run", arms=ARMS[:2], judged=False)
    build([tmp_path / "run"], tmp_path / "out")
    files = sorted(p.name for p in (tmp_path / "out" / "pictures").iterdir())
    assert {"fvu-0.svg", "fvu-0.png", "gamma-0.png", "loss-recovered-zero-0.svg"} <= set(files)
    assert all(p.stat().st_size < 300_000 for p in (tmp_path / "out" / "pictures").iterdir())
    assert "a5005a" not in (tmp_path / "out" / "pictures" / "fvu-0.svg").read_text()


def test_without_a_language_model_the_reason_takes_the_place_of_the_numbers(page: Callable[..., str]) -> None:
    tree = read(page(language=False))
    assert NO_MODEL in tree["fidelity"].text
    assert NO_MODEL in tree["arms"].text
    assert "loss recovered (zero ablation)" in tree["arms"].text
    marks = [e for e in tree["arms"].all("sup", "mark") if e.attributes["title"] == NO_MODEL]
    assert len(marks) == 3 * sum(len(arm.points) for arm in ARMS)


def test_what_is_missing_is_said(page: Callable[..., str]) -> None:
    tree = read(page(arms=ARMS[:1], judged=False, bare=True))
    assert "No verdict" in tree.text
    assert "No firing frequencies were saved" in tree["frequencies"].text
    assert "No top activating contexts were saved" in tree["contexts"].text
    assert "No training logs" in tree["training"].text
    assert "not on record" in tree["run"].text
    assert "No control was measured" in tree.text


def test_two_folders_about_one_place_share_pictures(tmp_path: Path) -> None:
    save(tmp_path / "a", arms=ARMS[:2], judged=False, bare=True)
    save(tmp_path / "b", arms=ARMS[2:], judged=False, bare=True)
    tree = read(build([tmp_path / "a", tmp_path / "b"], tmp_path / "joined", picture_files=False).read_text())
    pictures = [e for e in tree["fidelity"].all("svg") if e.attributes.get("role") == "img"]
    assert len(pictures) == 2
    assert all(arm.name in pictures[1].attributes["aria-label"] for arm in ARMS)


def test_two_folders_about_two_places_do_not(tmp_path: Path) -> None:
    save(tmp_path / "a", task="storyworld resid_post.2", bare=True)
    save(tmp_path / "b", task="stories260k mlp_out.1", bare=True)
    tree = read(build([tmp_path / "a", tmp_path / "b"], tmp_path / "joined", picture_files=False).read_text())
    assert [e.text for e in tree["fidelity"].all("h3")] == ["storyworld resid_post.2", "stories260k mlp_out.1"]
    assert len([e for e in tree["fidelity"].all("svg") if e.attributes.get("role") == "img"]) == 4
    assert len(tree["verdicts"].all("span", "pill")) == 18


def test_a_torn_log_a_torn_table_and_a_wrong_folder(tmp_path: Path) -> None:
    save(tmp_path / "a", arms=ARMS[:1], judged=False)
    assert "Along training" in build([tmp_path / "a"], tmp_path / "a", picture_files=False).read_text()
    (tmp_path / "a" / "examples.parquet").write_bytes((tmp_path / "a" / "examples.parquet").read_bytes()[:-40])
    with pytest.raises(Corrupt, match=r"examples\.parquet"):
        build([tmp_path / "a"], tmp_path / "out")
    with pytest.raises(NotFound, match="nowhere"):
        build([tmp_path / "nowhere"], tmp_path / "out")
    with pytest.raises(BadInput, match="No result folder"):
        build([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_logs_beside_the_evaluation_are_found_by_the_names_in_run_json(tmp_path: Path) -> None:
    save(tmp_path / "demo" / "evaluation", arms=ARMS[:2], judged=False)
    for log in (tmp_path / "demo" / "evaluation").glob("*/log.jsonl"):
        place = tmp_path / "demo" / "dictionaries" / log.parent.name
        place.parent.mkdir(exist_ok=True)
        log.parent.rename(place)
    stranger = tmp_path / "demo" / "dictionaries" / "stranger"
    stranger.mkdir()
    (stranger / "log.jsonl").write_text('{"tokens": 1, "fvu": 0.5}\n{"tokens": 2, "fvu": 0.4}\n')
    assert {arm: len(runs) for arm, runs in load([tmp_path / "demo" / "evaluation"]).curves.items()} == {
        "gated": 4,
        "topk": 4,
    }
    with_all = load([tmp_path / "demo" / "evaluation", tmp_path / "demo" / "dictionaries"]).curves
    assert {arm: len(runs) for arm, runs in with_all.items()} == {"gated": 4, "topk": 4, "stranger": 1}
    whole = load([tmp_path / "demo"])  # as it is written in assay report --help
    assert whole.results.outcomes == load([tmp_path / "demo" / "evaluation"]).results.outcomes
    assert {"gated", "topk"} <= set(whole.curves)
    with pytest.raises(NotFound, match="no evaluation"):
        load([tmp_path / "demo" / "dictionaries"])


def test_alarms_stand_before_the_numbers(tmp_path: Path) -> None:
    save(tmp_path / "a", arms=ARMS[:2], judged=False)
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    run |= {
        "alarms": ["Evaluated on <training> documents."],
        "splice_check": {"passed": False, "max_abs_loss_change_nats": 0.4},
    }
    (tmp_path / "a" / "run.json").write_text(json.dumps(run))
    text = build([tmp_path / "a"], tmp_path / "a", picture_files=False).read_text()
    assert "Evaluated on &lt;training&gt; documents." in text
    assert text.index("splice check failed") < text.index('id="fidelity"')
