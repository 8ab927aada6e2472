"""Dictionaries on the hub, against a stand-in server on loopback: what is fetched, what is sent, and what is said when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_examples import EXAMPLES, written
from hub_stand_in import COMMIT, TOKEN, HubStandIn
from plain_codes import rows
from test_formats import made

from assay import dictionaries, interop
from assay.core.errors import BadInput, BadOption, NotFound
from assay.interop import hub as hub_module
from assay.interop.pushing import card, files_of

ANOTHER = "hf_AnotherTokenOfNoUse"
SESSION = Path(__file__).with_name("hub_session.py")
SOME = {str(e): e for e in EXAMPLES}
Say = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        yield server


@pytest.fixture
def assay(hub: HubStandIn, tmp_path: Path) -> Say:
    """Run command lines in one process that knows this hub, this cache, and TOKEN unless a {"HF_TOKEN": ...} among them changes it."""

    def run(*lines: list[object] | dict[str, str | None], **more: str) -> list[dict[str, Any]]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("HF_", "HUGGING"))}
        env = {
            **kept,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
        }
        env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": TOKEN, **more}
        asked = [words if isinstance(words, dict) else list(map(str, words)) for words in lines]
        done = subprocess.run(
            [sys.executable, str(SESSION)], input=json.dumps(asked),
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert TOKEN not in done.stdout + done.stderr, "a token was shown"
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), f"a token was written to {file}"
        said = json.loads(done.stdout)
        assert all("Traceback" not in each["err"] for each in said), said
        return said

    return run


def upload(hub: HubStandIn, repo: str, folder: Path, below: str = "") -> None:
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    hub.repos.setdefault(repo, {}).update({f"{below}{name}": content for name, content in files.items()})


def one_sentence(said: dict[str, Any], part: str) -> None:
    assert said["code"] == 2, said
    assert part in said["err"] and said["err"].count("\n") == 1, said["err"]


def test_only_the_files_of_a_path_are_fetched_and_then_found_in_the_cache(hub, assay, tmp_path) -> None:
    written(SOME["gemma_scope-res"], tmp_path / "g")
    upload(hub, "google/gemma-scope-2b-pt-res", tmp_path / "g" / "gemma-scope-2b-pt-res")
    repo = hub.repos["google/gemma-scope-2b-pt-res"]
    repo |= {"layer_12/width_16k/average_l0_9/params.npz": b"not this one", "README.md": b"# no"}
    repo |= {"layer_12/width_16k/average_l0_82/picture.png": b"nor this"}
    place = "hf://google/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82"
    inspected, converted, file, dated = assay(
        ["inspect", place, "--json"], ["convert", place, tmp_path / "ours", "--to", "assay"],
        ["inspect", f"{place}/params.npz@main", "--json"], ["inspect", f"{place}@{COMMIT}", "--json"],
    )  # fmt: skip
    assert inspected["code"] == converted["code"] == file["code"] == dated["code"] == 0, (
        inspected,
        converted,
        file,
        dated,
    )
    (found,) = json.loads(inspected["out"])
    assert found["site"] == "resid_post.12" and found["model"] == "google/gemma-2-2b" and found["path"] == place
    assert hub.fetched() == ["layer_12/width_16k/average_l0_82/params.npz"]
    made_here = dictionaries.load(tmp_path / "ours")
    assert made_here.provenance["hub"] == f"{place}@{COMMIT}"
    x = rows()
    torch.testing.assert_close(made_here(x), SOME["gemma_scope-res"].answer(x)[1], rtol=1e-4, atol=1e-4)
    n = len(hub.requests)
    (offline,) = assay(["inspect", place, "--json"], HF_HUB_OFFLINE="1")
    assert offline["code"] == 0 and json.loads(offline["out"])[0]["site"] == "resid_post.12" and len(hub.requests) == n
    hub.status = 503
    (away,) = assay(["inspect", place, "--json"])
    assert away["code"] == 0, "a hub that fails does not take away what is in the cache"


def test_what_the_hub_does_not_have_is_said_in_one_sentence(hub, assay, tmp_path) -> None:
    written(SOME["sparsify-sae"], tmp_path / "s")
    upload(hub, "org/many", tmp_path / "s")
    upload(hub, "org/many", tmp_path / "s", "other/")
    upload(hub, "org/private", tmp_path / "s")
    upload(hub, "org/gated", tmp_path / "s")
    hub.private.add("org/private")
    hub.gated.add("org/gated")
    hub.repos["org/pickles"] = {"layer0.sae.pt": b"", "layer1.sae.pt": b""}
    hub.repos["org/hostile"] = {"../../evil.safetensors": b"", "/etc/evil.npz": b"", "a/../../x.npz": b""}
    inspect = lambda place: ["inspect", place]
    private = inspect("hf://org/private/layers.3")
    *said, closed, wrong, right = assay(
        *map(inspect, ("hf://org/nothing", "hf://org/many", "hf://org/many/nowhere", "hf://org/many/other@v9", "hf://org/gated",
        "hf://org/pickles", "hf://org/hostile", "hf://org", "hf://org/many/../x", "hf://datasets/org/many")),
        ["evaluate", "hf://org/nothing", "--text", "storyworld:9"], ["verify", "hf://org/nothing"],
        {"HF_TOKEN": None}, private, {"HF_TOKEN": ANOTHER}, private, {"HF_TOKEN": TOKEN}, [*private, "--json"],
    )  # fmt: skip
    parts = (
        "There is no repository org/nothing", "hf://org/many holds 2 folders with weights; name one, such as hf://org/many/",
        "does not exist in that repository", "org/many has no revision v9", "asks you to accept its terms",
        "holds 2 dictionaries; name one, such as hf://org/pickles/layer0.sae.pt", "holds no weights", "is no place on the hub",
        "is no path inside a repository", "names a dataset", "There is no repository org/nothing", "There is no repository",
    )  # fmt: skip
    for each, part in zip(said, parts, strict=True):
        one_sentence(each, part)
    for each in (closed, wrong):
        one_sentence(each, "There is no repository org/private on the hub that you may read")
    assert right["code"] == 0, right
    read = [path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path]
    assert read and all(path.startswith("/org/private/") for path in read), "of what is refused nothing is fetched"
    assert not list(tmp_path.rglob("evil*"))


def test_no_network_is_one_sentence(hub, assay, tmp_path) -> None:
    hub.repos["org/name"] = {"params.npz": b""}
    (offline,) = assay(["evaluate", "hf://org/name", "--text", "storyworld:9"], HF_HUB_OFFLINE="1")
    one_sentence(
        offline, "org/name is not in the cache, and the Hugging Face Hub is not asked (HF_HUB_OFFLINE is set)."
    )
    (nobody,) = assay(["inspect", "hf://org/name"], HF_ENDPOINT="http://127.0.0.1:9")
    one_sentence(nobody, "the Hugging Face Hub does not answer")
    hub.status = 500
    (broken,) = assay(["inspect", "hf://org/name"])
    one_sentence(broken, "answered with an error (status 500)")
    hub.status, hub.silent = None, True
    (slow,) = assay(["inspect", "hf://org/name"], HF_HUB_ETAG_TIMEOUT="1")
    one_sentence(slow, "the Hugging Face Hub does not answer")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    folder = tmp_path / "topk"
    folder.mkdir()
    facts = {"site": "resid_post.1", "model": "org/model", "model_path": "/home/somebody/model"}
    dictionaries.save(made("topk"), folder, golden=rows(32), provenance=facts)
    return folder


def test_push_and_read_back(hub, assay, ours, tmp_path) -> None:
    pushed, inspected, verified, again, converted = assay(
        ["push", ours, "org/new", "--path", "resid/topk", "--private", "--json"],
        ["inspect", "hf://org/new/resid/topk", "--json"],
        ["verify", "hf://org/new/resid/topk", "--json"],
        ["push", ours, "org/new", "--path", "resid/topk"],
        ["push", ours, "org/new", "--path", "sl", "--to", "saelens"],
    )
    assert pushed["code"] == inspected["code"] == verified["code"] == again["code"] == converted["code"] == 0, (
        inspected, verified, again, converted,
    )  # fmt: skip
    done = json.loads(pushed["out"])
    assert done["address"] == f"hf://org/new/resid/topk@{COMMIT}"
    assert hub.made_private["org/new"] is True
    repo = hub.repos["org/new"]
    for name in ("config.json", "weights.safetensors", "checksums.json", "golden.safetensors", "provenance.json"):
        assert repo[f"resid/topk/{name}"] == (ours / name).read_bytes()
    assert sorted(done["files"]) == sorted(n for n in repo if n.startswith("resid/topk/"))
    assert json.loads(inspected["out"])[0]["arch"] == "topk" and json.loads(verified["out"])[0]["rows"] == 32
    written_card = repo["resid/topk/README.md"].decode()
    for part in ("base_model: org/model", "`resid_post.1`", "assay evaluate hf://org/new/resid/topk", "32 golden rows"):
        assert part in written_card
    assert "/home/somebody" not in written_card and "provenance.json went up too" in again["out"]
    assert {"sl/cfg.json", "sl/sae_weights.safetensors", "sl/golden.safetensors", "sl/README.md"} <= set(repo)
    assert all(said in ("", f"Bearer {TOKEN}") for _, path, said in hub.requests if "/upload/" not in path)
    assert all(said == "" for _, path, said in hub.requests if path.startswith("/upload/"))
    for name, content in repo.items():
        assert TOKEN.encode() not in content, name
    opened = interop.open(written_from(repo, "sl/", tmp_path / "back"))
    x = rows()
    torch.testing.assert_close(opened(x), interop.open(ours)(x), rtol=1e-4, atol=1e-4)


def written_from(repo: dict[str, bytes], prefix: str, folder: Path) -> Path:
    folder.mkdir()
    for name, content in repo.items():
        if name.startswith(prefix):
            (folder / name.removeprefix(prefix)).write_bytes(content)
    return folder


def test_push_refuses_in_one_sentence(hub, assay, ours, tmp_path) -> None:
    hub.repos["org/full"] = {"params.npz": b"another", "README.md": b"# somebody's own"}
    outside = tmp_path / "secret.json"
    outside.write_text("{}")
    (tmp_path / "linked").mkdir()
    for file in ours.iterdir():
        (tmp_path / "linked" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "linked" / "extra.json").symlink_to(outside)
    lines = (
        ["push", ours, "org/full"], ["push", tmp_path / "linked", "org/x"], ["push", ours, "justname"],
        ["push", ours, "org/x", "--path", "../y"], ["push", tmp_path / "none", "org/x"], ["push", ours, "org/x", "--to", "gemma_scope"],
    )  # fmt: skip
    parts = (
        "already holds params.npz, of another dictionary", "is a link that leads out of its folder", "is no repository; write org/name",
        "is no path inside a repository", "does not exist", "gemma_scope cannot represent the rule topk",
    )  # fmt: skip
    elsewhere, denied = ["push", ours, "org/full", "--path", "mine", "--json"], ["push", ours, "org/y"]
    *said, kept, nameless, wrong = assay(*lines, elsewhere, {"HF_TOKEN": None}, denied, {"HF_TOKEN": ANOTHER}, denied)
    for each, part in zip(said, parts, strict=True):
        one_sentence(each, part)
    assert kept["code"] == 0 and hub.repos["org/full"]["README.md"] == b"# somebody's own"
    assert "org/x" not in hub.repos, "nothing is created for what is refused"
    assert not any("secret" in name or name == "extra.json" for repo in hub.repos.values() for name in repo)
    for each in (nameless, wrong):
        one_sentence(each, "The hub does not let you write to org/y")
    (offline,) = assay(["push", ours, "org/y"], HF_HUB_OFFLINE="1")
    assert offline["code"] == 2 and "is not asked" in offline["err"]


def test_addresses() -> None:
    for text, parts in {
        "hf://a/b": ("a/b", "", None),
        "hf://a/b/c/d.npz": ("a/b", "c/d.npz", None),
        "hf://a/b/c@v1": ("a/b", "c", "v1"),
        "hf://a/b@v1/c": ("a/b", "c", "v1"),
        "hf://a/b@refs-1": ("a/b", "", "refs-1"),
        "hf://a/b/c@refs/pr/1": ("a/b", "c", "refs/pr/1"),
        "hf:/a/b/c": ("a/b", "c", None),
    }.items():
        at = hub_module.address(text)
        assert (at.repo, at.path, at.revision) == parts, text
    for text in (
        "hf://",
        "hf://a",
        "hf://a/b/../c",
        "hf://a/b@1/c@2",
        "hf://a/b/c\\..",
        "hf://a b/c",
        "hf://datasets/a/b",
    ):
        with pytest.raises(BadOption):
            hub_module.address(text)


def test_the_files_of_a_place() -> None:
    names = [
        "cfg.json",
        "sae.safetensors",
        "README.md",
        "sub/sae.safetensors",
        "x/hyperparams.json",
        "x/checkpoints/final.safetensors",
    ]
    of = lambda path: hub_module.wanted(names, hub_module.Address("a/b", path))
    assert of("") == ["sae.safetensors", "cfg.json"]
    assert of("x") == ["x/checkpoints/final.safetensors", "x/hyperparams.json"]
    assert of("sub/sae.safetensors") == ["sub/sae.safetensors"]
    with pytest.raises(NotFound, match="does not exist in that repository"):
        of("nowhere")


def test_links_in_a_folder_that_is_pushed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.safetensors").write_bytes(b"x")
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "cfg.json").write_text("{}")
    (folder / "checkpoints").symlink_to(tmp_path / "out")
    with pytest.raises(BadInput, match="leads out"):
        files_of(folder)
    (folder / "checkpoints").unlink()
    (folder / "notes.txt").symlink_to("/etc/hostname")
    (folder / "golden.json").symlink_to(tmp_path / "out" / "x.safetensors")
    with pytest.raises(BadInput, match="leads out"):
        files_of(folder)
    (folder / "golden.json").unlink()
    assert list(files_of(folder)) == ["cfg.json"]


def test_a_card_shows_a_strangers_words_as_words() -> None:
    found = {
        "format": "saelens", "architecture": "standard", "arch": "relu", "d_in": 6, "d_sae": 20, "d_out": 6, "target": None,
        "model": "x`\n---\n# Read me <script>", "site": "a|b\n\nhttp://evil `", "scale": "none", "threshold": "none", "b_dec": "none",
    }  # fmt: skip
    text = card(found, hub_module.Address("org/name", "p"))
    assert "\n# Read me" not in text and "base_model" not in text and "\nhttp" not in text
    assert text.count("---\n") == 2


def test_evaluate_and_train_on_from_the_hub(hub, assay, tmp_path) -> None:
    from assay.dictionaries.initialisation import init_tied
    from assay.dictionaries.relu import Config, Relu

    dictionary = Relu(Config(d_in=96, d_sae=24, l1_coef=0.1))
    init_tied(dictionary, torch.Generator().manual_seed(1))
    dictionary.provenance = {"model": "storyworld", "site": "resid_post.1"}
    interop.write(dictionary, tmp_path / "sl", "saelens")
    upload(hub, "org/story", tmp_path / "sl", "resid_post.1/")
    text = ("--text", "storyworld:30", "--threads", "1", "--quiet", "--json")
    evaluated, trained = assay(
        ["evaluate", "--dict", "hf://org/story/resid_post.1", *text, "--resamples", "100", "--out", "e"],
        ["train", "--model", "storyworld", "--site", "resid_post.1", "--arch", "relu", "--l1-coef", "0.1", "--d-sae", "24", *text,
         "--init", "hf://org/story/resid_post.1", "--n-tokens", "512", "--batch-size", "256", "--out", "t"],
    )  # fmt: skip
    assert evaluated["code"] == trained["code"] == 0, (evaluated, trained)
    assert any(o["metric"] == "fvu" for o in json.loads(evaluated["out"])["outcomes"])
    run = json.loads((tmp_path / "e" / "run.json").read_text())
    assert run["model"] == "storyworld" and run["site"] == "resid_post.1"
    assert (
        json.loads((tmp_path / "t" / "provenance.json").read_text())["init"] == f"hf://org/story/resid_post.1@{COMMIT}"
    )


def test_a_short_name_is_fetched_and_a_wrong_l0_is_told_which_there_are(hub, assay, tmp_path) -> None:
    written(SOME["gemma_scope-att"], tmp_path / "g")
    upload(hub, "google/gemma-scope-2b-pt-att", tmp_path / "g" / "gemma-scope-9b-it-att")
    right, wrong = assay(
        ["inspect", "gemma-scope-2b-att/layer_3/width_16k/l0_9", "--json"], ["inspect", "gemma-scope-2b-att/layer_3/width_16k/l0_8"],
    )  # fmt: skip
    (found,) = json.loads(right["out"])
    assert (found["model"], found["site"]) == ("google/gemma-2-2b", "attn_z.3")
    one_sentence(wrong, "layer_3/width_16k has average_l0_9")
