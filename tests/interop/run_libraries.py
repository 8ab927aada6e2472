"""Runs inside `.venv-interop`: the real libraries write dictionaries, or read ours, and say what they compute. Nothing of assay here.

python run_libraries.py make FORMAT FOLDER     FOLDER/NAME/ of every architecture in the library's own format, with random biases;
                                               FOLDER/NAME.answer.safetensors holds x, codes and output of the library's object
python run_libraries.py read FORMAT FOLDER     for every FOLDER/NAME/ that holds x in NAME.question.safetensors: the answer, as above
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
D, F, K, OUT = 12, 40, 5, 7


def scramble(module: Any, seed: int) -> None:
    """Every parameter random and not 0; thresholds positive."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = 0.4 * torch.randn(parameter.shape, generator=rng)
            around = {"b_dec": 0.5, "bias": 0.5, "decoder_bias": 0.5, "threshold": 0.0}.get(name, 0.05)
            parameter.copy_(values.abs() + 0.3 if name == "threshold" else values + around)


def rows(seed: int, width: int = D) -> torch.Tensor:
    return 1.4 * torch.randn(200, width, generator=torch.Generator().manual_seed(seed)) + 0.2


# ---- SAELens ------------------------------------------------------------------------------------------------------


def saelens_make(folder: Path) -> dict[str, Any]:
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.sae import SAE, SAEMetadata

    common = {"d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu"}
    meta = SAEMetadata(model_name="gpt2", hook_name="blocks.2.hook_resid_post")
    made: dict[str, Any] = {}
    plain = {"standard": {}, "gated": {}, "jumprelu": {}, "topk": {"k": K}, "abstopk": {"k": K}}
    variants: list[tuple[str, str, dict[str, Any]]] = []
    for architecture, options in plain.items():
        for sub in (True, False):
            variants.append(
                (f"{architecture}-{'sub' if sub else 'plain'}", architecture, {**options, "apply_b_dec_to_input": sub})
            )
    for name in ("topk", "abstopk"):
        variants.append((f"{name}-normed", name, {"k": K, "rescale_acts_by_decoder_norm": True}))
    for name, how in (
        ("standard", "layer_norm"),
        ("topk", "layer_norm"),
        ("gated", "constant_norm_rescale"),
        ("jumprelu", "layer_norm"),
    ):
        variants.append((f"{name}-{how}", name, {**plain[name], "normalize_activations": how}))
    for name in ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"):
        variants.append((name, name, {"d_out": OUT, "apply_b_dec_to_input": False}))
    from sae_lens.registry import get_sae_class

    for seed, (name, architecture, options) in enumerate(variants):
        cls, config = get_sae_class(architecture)
        sae = cls(config(**common, **options, metadata=meta))
        scramble(sae, seed)
        sae.save_model(folder / name)
        made[name] = SAE.load_from_disk(folder / name)
    for scaled in (
        "standard",
        "gated",
        "jumprelu",
        "topk",
    ):  # trained on s x: their own fold against ours from the checkpoint
        cls, config = get_sae_class(scaled)
        options = {**plain[scaled], "normalize_activations": "expected_average_only_in"}
        sae = cls(config(**common, **options, metadata=meta))
        scramble(sae, 77)
        name = f"scaled-{scaled}"
        sae.save_model(folder / name)
        (folder / name / "activation_scaler.json").write_text(
            json.dumps({"scaling_factor": 1.7, "has_whitening": False})
        )
        sae.fold_activation_norm_scaling_factor(1.7)
        made[name] = sae
    for white in ("standard-sub", "standard-plain", "gated-plain", "jumprelu-plain", "topk-normed"):
        old = made[white]
        sae = type(old)(copy.deepcopy(old.cfg))
        sae.load_state_dict(old.state_dict())
        name = f"white-{white}"
        sae.save_model(folder / name)
        cfg = json.loads((folder / name / "cfg.json").read_text())
        (folder / name / "cfg.json").write_text(json.dumps({**cfg, "normalize_activations": "covariance_whitening"}))
        rng = torch.Generator().manual_seed(5)
        mean, matrix = torch.randn(D, generator=rng), 0.3 * torch.randn(D, D, generator=rng) + torch.eye(D)
        stored = {"mean": mean, "matrix": matrix, "inverse_matrix": torch.linalg.inv(matrix).contiguous()}
        save_file(stored, folder / name / "activation_whitening.safetensors")
        sae.fold_activation_whitening(*stored.values())
        made[name] = sae
    for rescale in (False, True):  # a checkpoint with one threshold, and the jumprelu that they export
        config = BatchTopKTrainingSAEConfig(**common, k=K, rescale_acts_by_decoder_norm=rescale, metadata=meta)
        training = BatchTopKTrainingSAE(config)
        scramble(training, 90)
        training.topk_threshold.fill_(0.9)
        export = folder / f"batchtopk-export{'-normed' if rescale else ''}"
        training.save_inference_model(export)
        made[export.name] = SAE.load_from_disk(export)
        checkpoint = folder / f"batchtopk-checkpoint{'-normed' if rescale else ''}"
        training.save_model(checkpoint)
        made[checkpoint.name] = made[export.name]  # what they mean by it at inference
    return made


def saelens_read(folder: Path) -> Any:
    from sae_lens.saes.sae import SAE

    return SAE.load_from_disk(folder)


def saelens_loaded(loader: str, repo: str, file: str, local: Path, d_in: int, d_sae: int) -> Any:
    """What SAELens' loader of a release makes of a local file in that release's layout."""
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.saes.sae import SAE

    loaders.hf_hub_download = lambda **_: str(local)  # nothing is downloaded
    sizes = {"d_in": d_in, "d_sae": d_sae}
    cfg, state, _ = getattr(loaders, loader)(repo, file, "cpu", cfg_overrides=sizes)
    sae = SAE.from_dict(loaders.handle_pre_6_0_config(cfg))
    sae.load_state_dict(state)
    return sae


def goodfire_read(folder: Path) -> Any:
    (file,) = folder.glob("*.pt")
    d_sae, d_in = torch.load(file, weights_only=True)["encoder_linear.weight"].shape
    name = "Llama-3.1-8B-Instruct-SAE-l19"
    return saelens_loaded("get_goodfire_huggingface_loader", f"Goodfire/{name}", f"{name}.pth", file, d_in, d_sae)


def qwen_scope_read(folder: Path) -> Any:
    (file,) = folder.glob("layer*.sae.pt")
    d_sae, d_in = torch.load(file, weights_only=True)["W_enc"].shape
    k = json.loads((folder / "read_as.json").read_text())["k"]
    repo = f"Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_{k}"
    return saelens_loaded("qwen_scope_sae_huggingface_loader", repo, file.name, file, d_in, d_sae)


# ---- sparsify -----------------------------------------------------------------------------------------------------


class Sparse:
    """A SparseCoder with the two calls of the others."""

    def __init__(self, coder: Any) -> None:
        self.coder = coder

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        found = self.coder.encode(x)
        return torch.zeros(len(x), self.coder.num_latents).scatter(1, found.top_indices, found.top_acts)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.coder(x).sae_out


def sparsify_make(folder: Path) -> dict[str, Any]:
    from sparsify import SparseCoder, SparseCoderConfig

    made: dict[str, Any] = {}
    for seed, (name, options) in enumerate(
        {
            "sae": {},
            "sae-skip": {"skip_connection": True},
            "transcoder": {"transcode": True},
            "skip-transcoder": {"transcode": True, "skip_connection": True},
            "expansion": {"num_latents": 0, "expansion_factor": 4},
        }.items()
    ):
        coder = SparseCoder(D, SparseCoderConfig(**{"num_latents": F, "k": K, **options}))
        scramble(coder, 200 + seed)
        coder.save_to_disk(folder / name)
        made[name] = Sparse(SparseCoder.load_from_disk(folder / name))
    return made


def sparsify_read(folder: Path) -> Any:
    from sparsify import SparseCoder

    return Sparse(SparseCoder.load_from_disk(folder))


# ---- dictionary_learning ------------------------------------------------------------------------------------------


def dictionary_learning_make(folder: Path) -> dict[str, Any]:
    from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    objects = [cls(D, F) for cls in (AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder)]
    objects += [AutoEncoderTopK(D, F, K), BatchTopKSAE(D, F, K), MatryoshkaBatchTopKSAE(D, F, K, [10, 10, 20])]
    made: dict[str, Any] = {}
    for seed, ae in enumerate(objects):
        scramble(ae, 300 + seed)
        name = type(ae).__name__
        if "BatchTopK" in name:
            ae.threshold.fill_(0.9)
        if hasattr(ae, "scale_biases"):
            ae.scale_biases(2.3)  # as at the end of a run that normalised its activations
        (folder / name).mkdir(parents=True)
        torch.save(ae.state_dict(), folder / name / "ae.pt")
        trainer = {"dict_class": name, "activation_dim": D, "dict_size": F, "lm_name": "gpt2", "norm_factor": 2.3}
        trainer |= {"k": K} if hasattr(ae, "k") else {}
        (folder / name / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
        made[name] = ae
    return made


def dictionary_learning_read(folder: Path) -> Any:
    from dictionary_learning.utils import load_dictionary

    return load_dictionary(str(folder), "cpu")[0]


# ---- HypotheSAEs: the file of its class alone, since the package also wants clients of language models ----------------


class Hypothesis:
    """A SparseAutoencoder with the two calls of the others."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)[1]["activations"]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)[0]


def hypothesaes_module() -> Any:
    import importlib.util

    found = importlib.util.find_spec("hypothesaes")
    assert found is not None and found.origin is not None
    spec = importlib.util.spec_from_file_location("hypothesaes_sae", Path(found.origin).with_name("sae.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hypothesaes_make(folder: Path) -> dict[str, Any]:
    cls, made = hypothesaes_module().SparseAutoencoder, {}
    variants = {"topk": {}, "prefixes": {"prefix_lengths": [10, F]}, "batch": {"use_batch_topk": True}}
    variants["batch-prefixes"] = {"use_batch_topk": True, "prefix_lengths": [10, 20, F]}
    for seed, (name, options) in enumerate(variants.items()):
        model = cls(D, F, K, device="cpu", **options)
        scramble(model, 400 + seed)
        model.threshold.fill_(0.9)
        model.save(str(folder / name / "sae.pt"))
        made[name] = Hypothesis(model)
    return made


def hypothesaes_read(folder: Path) -> Any:
    (file,) = folder.glob("*.pt")
    return Hypothesis(hypothesaes_module().load_model(str(file), device="cpu"))


# ---- overcomplete: the folder of its SAEs alone, since the package also wants vision models --------------------------------


def overcomplete_sae() -> Any:
    import importlib.util
    import types

    if "overcomplete" not in sys.modules:
        found = importlib.util.find_spec("overcomplete")
        assert found is not None
        package = types.ModuleType("overcomplete")
        package.__path__ = list(found.submodule_search_locations or [])
        sys.modules["overcomplete"] = package
    import overcomplete.sae

    return overcomplete.sae


class Complete:
    """An SAE of theirs with the two calls of the others."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.encode(x)[1]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)[2]


def overcomplete_make(folder: Path) -> dict[str, Any]:
    sae = overcomplete_sae()
    gained = {"dictionary_params": {"use_multiplier": True}}
    points = torch.randn(30, D, generator=torch.Generator().manual_seed(8))
    variants: dict[str, tuple[Any, dict[str, Any]]] = {
        "relu": (sae.SAE(D, F), {"rule": "relu"}),
        "relu-gain": (sae.SAE(D, F, **gained), {"rule": "relu"}),
        "topk": (sae.TopKSAE(D, F, top_k=K), {"rule": "topk", "k": K}),
        "topk-norm": (sae.TopKSAE(D, F, top_k=K, encoder_module="mlp_bn_1"), {"rule": "topk", "k": K}),
        "jump": (sae.JumpSAE(D, F, **gained), {}),
        "batch": (sae.BatchTopKSAE(D, F, top_k=K), {"rule": "batchtopk", "threshold": 0.8}),
        "tied": (sae.TopKSAE(D, F, top_k=K, **gained).tied(bias=True), {"rule": "topk", "k": K}),
        "untied": (sae.SAE(D, F).untied(), {"rule": "relu"}),
        "archetypal": (sae.RATopKSAE(D, F, points=points, top_k=K, delta=9.0), {"rule": "topk", "k": K}),
    }
    made: dict[str, Any] = {}
    for seed, (name, (model, said)) in enumerate(variants.items()):
        scramble(model, 700 + seed)
        if name == "topk-norm":
            for _ in range(30):  # its running mean and variance
                model(3 * torch.randn(64, D) + 1)
        if name == "batch":
            model.running_threshold = torch.tensor(0.8)
        model.eval()  # brings the rows to length 1
        (folder / name).mkdir(parents=True)
        torch.save(model.state_dict(), folder / name / "sae.pt")
        (folder / name / "read_as.json").write_text(json.dumps(said))
        made[name] = Complete(model)
    return made


def overcomplete_read(folder: Path) -> Any:
    said = json.loads((folder / "read_as.json").read_text())
    state = torch.load(folder / "sae.pt", weights_only=True)
    n_latents, width = state["dictionary._weights"].shape
    options = {"top_k": said["k"]} if "k" in said else {}
    cls = getattr(overcomplete_sae(), said["class"])
    model = cls(width, n_latents, dictionary_params={"normalization": said["normalization"]}, **options)
    model.load_state_dict(state)
    return Complete(model)


# ---- circuit-tracer -------------------------------------------------------------------------------------------------

LAYERS = 3


class InLayers:
    """Transcoders of several layers with the two calls of the others: layers side by side on the last axis."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (self.model.n_layers, -1)).transpose(0, 1)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.encode(self.apart(x)).transpose(0, 1).flatten(1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        inputs = self.apart(x)
        return self.model.decode(self.model.encode(inputs), inputs).transpose(0, 1).flatten(1)


def circuit_tracer_make(folder: Path) -> dict[str, Any]:
    from circuit_tracer.transcoder.activation_functions import JumpReLU
    from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet

    made: dict[str, Any] = {}
    for seed, (jump, skip) in enumerate([(False, False), (False, True), (True, False), (True, True)]):
        rule = JumpReLU(torch.zeros(F)) if jump else torch.relu
        coder = SingleLayerTranscoder(D, F, rule, 2, skip_connection=skip, dtype=torch.float32)
        scramble(coder, 500 + seed)
        if jump:
            with torch.no_grad():
                coder.activation_function.threshold.abs_().add_(0.3)
        name = f"{'jumprelu' if jump else 'relu'}{'-skip' if skip else ''}"
        (folder / name).mkdir(parents=True)
        coder.to_safetensors(str(folder / name / "layer_2.safetensors"))
        made[name] = coder
    for skip in (False, True):  # all layers in one folder
        coders: dict[int, Any] = {}
        for i in range(LAYERS):
            coders[i] = SingleLayerTranscoder(
                D, F, JumpReLU(torch.zeros(F)), i, skip_connection=skip, dtype=torch.float32
            )
            scramble(coders[i], 550 + i)
            with torch.no_grad():
                coders[i].activation_function.threshold.abs_().add_(0.3)
        name = f"set{'-skip' if skip else ''}"
        together = TranscoderSet(coders, "hook_resid_mid", "hook_mlp_out")
        together.to_safetensors(str(folder / name))
        made[name] = InLayers(together)
    return made


def circuit_tracer_read(folder: Path) -> Any:
    from circuit_tracer.transcoder.single_layer_transcoder import load_relu_transcoder, load_transcoder_set

    files = {i: str(file) for i, file in enumerate(sorted(folder.glob("layer_*.safetensors")))}
    eager = {"lazy_encoder": False, "lazy_decoder": False}
    if len(files) == 1:
        return load_relu_transcoder(files[0], 0, **eager)
    return InLayers(load_transcoder_set(files, "", "hook_resid_mid", "hook_mlp_out", **eager))


def circuit_tracer_clt_make(folder: Path) -> dict[str, Any]:
    from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder

    made: dict[str, Any] = {}
    for seed, rule in enumerate(("relu", "jump_relu")):
        clt = CrossLayerTranscoder(LAYERS, F, D, activation_function=rule, lazy_decoder=False, dtype=torch.float32)
        scramble(clt, 600 + seed)
        if rule == "jump_relu":
            with torch.no_grad():
                clt.activation_function.threshold.abs_().add_(0.3)
        clt.to_safetensors(str(folder / rule))
        made[rule] = InLayers(clt)
    return made


def circuit_tracer_clt_read(folder: Path) -> Any:
    from circuit_tracer.transcoder.cross_layer_transcoder import load_clt

    return InLayers(load_clt(str(folder), dtype=torch.float32, lazy_decoder=False))


def gemma_scope_read(folder: Path) -> Any:
    from circuit_tracer.transcoder.single_layer_transcoder import load_gemma_scope_transcoder

    return load_gemma_scope_transcoder(str(folder / "params.npz"), 0)


def gemma_scope_2_read(folder: Path) -> Any:
    from circuit_tracer.transcoder.single_layer_transcoder import load_gemma_scope_2_transcoder

    return load_gemma_scope_2_transcoder(str(folder / "params.safetensors"), 0)


def gemma_scope_2_clt_read(folder: Path) -> Any:
    from circuit_tracer.transcoder.cross_layer_transcoder import load_gemma_scope_2_clt

    paths = {i: str(folder / f"params_layer_{i}.safetensors") for i in range(len(list(folder.glob("params_layer_*"))))}
    paths[len(paths)] = ""  # the loader leaves out the last layer that it is given
    return InLayers(load_gemma_scope_2_clt(paths, dtype=torch.float32))


def answered(model: Any, x: torch.Tensor, file: Path) -> None:
    with torch.no_grad():
        save_file({"x": x, "f": model.encode(x).contiguous(), "y": model(x).contiguous()}, file)


def main() -> None:
    what, format, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    call: Callable[[Path], Any] = globals()[f"{format}_{what}"]
    if what == "make":
        for name, model in call(folder).items():
            width = D * (LAYERS if isinstance(model, InLayers) else 1)
            answered(model, rows(1, width), folder / f"{name}.answer.safetensors")
        return
    for question in sorted(folder.glob("*.question.safetensors")):
        name = question.name.removesuffix(".question.safetensors")
        answered(call(folder / name), load_file(question)["x"], folder / f"{name}.answer.safetensors")


if __name__ == "__main__":
    main()
