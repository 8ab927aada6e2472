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


def rows(seed: int) -> torch.Tensor:
    return 1.4 * torch.randn(200, D, generator=torch.Generator().manual_seed(seed)) + 0.2


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


# ---- circuit-tracer -------------------------------------------------------------------------------------------------


def circuit_tracer_make(folder: Path) -> dict[str, Any]:
    from circuit_tracer.transcoder.activation_functions import JumpReLU
    from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder

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
    return made


def circuit_tracer_read(folder: Path) -> Any:
    from circuit_tracer.transcoder.single_layer_transcoder import load_relu_transcoder

    (file,) = folder.glob("layer_*.safetensors")
    return load_relu_transcoder(str(file), 0, lazy_encoder=False, lazy_decoder=False)


def gemma_scope_read(folder: Path) -> Any:
    from circuit_tracer.transcoder.single_layer_transcoder import load_gemma_scope_transcoder

    return load_gemma_scope_transcoder(str(folder / "params.npz"), 0)


def gemma_scope_2_read(folder: Path) -> Any:
    from circuit_tracer.transcoder.single_layer_transcoder import load_gemma_scope_2_transcoder

    return load_gemma_scope_2_transcoder(str(folder / "params.safetensors"), 0)


def answered(model: Any, x: torch.Tensor, file: Path) -> None:
    with torch.no_grad():
        save_file({"x": x, "f": model.encode(x).contiguous(), "y": model(x).contiguous()}, file)


def main() -> None:
    what, format, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    call: Callable[[Path], Any] = globals()[f"{format}_{what}"]
    if what == "make":
        for name, model in call(folder).items():
            answered(model, rows(1), folder / f"{name}.answer.safetensors")
        return
    for question in sorted(folder.glob("*.question.safetensors")):
        name = question.name.removesuffix(".question.safetensors")
        answered(call(folder / name), load_file(question)["x"], folder / f"{name}.answer.safetensors")


if __name__ == "__main__":
    main()
