"""Short names of known releases: what they stand for, what is refused, and that the list is whole."""

from __future__ import annotations

import re

import pytest

from assay.cli.main import main
from assay.interop import hub, places, releases
from assay.models.sites import KINDS


def asked(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The place on the hub that a name leads to; nothing is fetched."""
    seen: list[str] = []
    monkeypatch.setattr(hub, "fetched", lambda text: seen.append(text) or places.Place(places.Path("x")))
    assert places.located(name) is not None
    return seen[0]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("gemma-scope-2b-res/layer_12/width_16k/l0_82", "google/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82"),
        ("gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82", "google/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82"),
        ("gemma-scope-2b-res/embedding/width_4k/l0_6", "google/gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6"),
        ("gemma-scope-9b-it-res/layer_9/width_16k/l0_88", "google/gemma-scope-9b-it-res/layer_9/width_16k/average_l0_88"),
        ("gemma-scope-2-1b-pt/resid_post/layer_13_width_16k_l0_big", "google/gemma-scope-2-1b-pt/resid_post/layer_13_width_16k_l0_big"),
        ("gemma-scope-2-4b-it/transcoder_all/layer_0_width_16k_l0_big_affine", "google/gemma-scope-2-4b-it/transcoder_all/layer_0_width_16k_l0_big_affine"),
        ("llama_scope_lxr_8x/l12r_8x", "fnlp/Llama3_1-8B-Base-LXR-8x/Llama3_1-8B-Base-L12R-8x"),
        ("gpt2-small-resid-post-v5-32k/layer_8", "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs/v5_32k_layer_8.pt"),
        ("saebench-gemma-2-2b-2pow14-1109/topk/layer_12/trainer_0", "canrager/saebench_gemma-2-2b_width-2pow14_date-1109/gemma-2-2b_topk_width-2pow14_date-1109/resid_post_layer_12/trainer_0"),
        ("eleuther-llama-3.1-8b-64x/layers.23.mlp", "EleutherAI/sae-llama-3.1-8b-64x/layers.23.mlp"),
        ("qwen3-4b-transcoders/layer_3", "mwhanna/qwen3-4b-transcoders/layer_3.safetensors"),
    ],
)  # fmt: skip
def test_a_name_leads_to_its_place(name: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(name, monkeypatch) == f"hf://{place}"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("gemma-scope-2b-rez/layer_12/width_16k/l0_82", 'Did you mean "gemma-scope-2b-res"?'),
        ("gema-scope-9b-mlp/layer_0/width_16k/l0_5", "gemma-scope-9b-mlp"),
        ("gemma-scope-2b-res/layer_26/width_16k/l0_82", "has layers 0 to 25"),
        ("gemma-scope-27b-res/layer_11/width_131k/l0_106", "has layers 10, 22, 34"),
        ("gemma-scope-2b-res/layer_12/16k", "such as gemma-scope-2b-res/layer_12/width_16k/l0_82"),
        ("gemma-scope-2b-res/layer_12/../../x", "is none of these"),
        ("gemma-scope-2b-res", "is followed by layer_{layer}/width_{width}/l0_{l0}"),
    ],
)
def test_a_wrong_name_is_told_what_is_near(name: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["inspect", name], ["evaluate", "--dict", name, "--text", "storyworld:9"], ["verify", name]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert part in said and said.count("\n") == 1, said


def test_a_folder_that_does_not_exist_is_still_only_that(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("runs/train-1", "./gemma-scope-2b-res/layer_12/width_16k/l0_82", "/gemma-scope-2b-res"):
        assert main(["inspect", name]) == 2
        assert "does not exist" in capsys.readouterr().err


def test_offline_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert constants.HF_HUB_OFFLINE, "the tests run offline"
    assert main(["inspect", "gemma-scope-2b-res/layer_12/width_16k/l0_82"]) == 2
    said = capsys.readouterr().err
    assert "google/gemma-scope-2b-pt-res is not in the cache, and the Hugging Face Hub is not asked" in said
    assert said.count("\n") == 1


def test_list_releases_shows_an_example_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "releases"]) == 0
    said = capsys.readouterr().out
    assert "gemma-scope-2b-res/layer_12/width_16k/l0_82" in said
    assert said.count("\n") == len({id(entry) for entry in releases.known().values()})


def test_every_entry_is_whole() -> None:
    entries = {id(entry): entry for entry in releases.known().values()}.values()
    assert len(entries) > 60
    names = [name for entry in entries for name in (entry["name"], *entry["also"])]
    assert len(names) == len(set(names)), "a name stands for one release"
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry["repo"]) and entry["checked"], entry["name"]
        path = releases.path_of(entry["name"], entry, entry["example"])
        assert hub.is_plain(path) and "{" not in path
        facts = releases.facts_of(entry["repo"], path)
        assert facts["model"] == entry["model"]
        for site in (facts["site"], facts.get("target", "embed")):
            assert site == "embed" or site.split(".")[0] in KINDS, site


def test_facts_of_a_place_on_the_hub() -> None:
    repo = "google/gemma-scope-2b-pt-transcoders"
    found = releases.facts_of(repo, "layer_4/width_16k/average_l0_88/params.npz")
    assert found == {"model": "google/gemma-2-2b", "site": "mlp_in.4", "target": "mlp_out.4"}
    assert releases.facts_of("google/gemma-scope-2b-pt-att", "layer_4/width_16k/average_l0_88")["site"] == "attn_z.4"
    assert releases.facts_of("org/other", "layer_4/width_16k/average_l0_88") == {}
    assert releases.facts_of("google/gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6")["site"] == "embed"
