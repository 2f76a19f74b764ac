"""Seeded random decoder folders of odd shapes, and what transformers computes with them.

    python decoders.py OUTDIR

Writes OUTDIR/NAME/ (config.json, generation_config.json, model.safetensors) and OUTDIR/NAME/golden.json for each case. golden.json
holds {"input_ids": [[…]], "logits": [text][token][vocab], "generate": [{"options": …, "prompts": [[…]], "outputs": [[…]]}]}; outputs are
without their prompts.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
SIGNIFICANT = 7  # digits of a stored number; f32 has as many

GPT2 = dict(vocab_size=37, n_embd=12, n_layer=2, n_head=3, n_positions=40, bos_token_id=0, eos_token_id=2)
LLAMA = dict(vocab_size=37, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=17,
             max_position_embeddings=60, bos_token_id=0, eos_token_id=2)

# Name: class, settings.
CASES = {
    "gpt2_odd": ("GPT2", dict(n_inner=17, activation_function="gelu", layer_norm_epsilon=1e-4)),
    "gpt2_old": ("GPT2", dict(n_embd=15)),
    "llama_shared": ("Llama", dict(tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=500.0))),
    "llama_wide": ("Llama", dict(num_key_value_heads=1, head_dim=6, attention_bias=True, mlp_bias=True, eos_token_id=[2, 5],
                                 rope_parameters=dict(rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0,
                                                      high_freq_factor=4.0, original_max_position_embeddings=16))),
    "llama_linear": ("Llama", dict(hidden_act="gelu_pytorch_tanh", rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.5))),
    "llama_yarn": ("Llama", dict(head_dim=8, rope_parameters=dict(rope_type="yarn", rope_theta=1e3, factor=4.0,
                                                                  original_max_position_embeddings=15))),
    "mistral_window": ("Mistral", dict(sliding_window=5, head_dim=4)),
    "mistral_whole": ("Mistral", dict(sliding_window=None)),
    "qwen2_window": ("Qwen2", dict(use_sliding_window=True, sliding_window=4, max_window_layers=1, num_hidden_layers=3)),
    "qwen2_tied": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen3_odd": ("Qwen3", dict(head_dim=6, num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=True)),
    "smollm3_gaps": ("SmolLM3", dict(num_hidden_layers=4, no_rope_layer_interval=2, pad_token_id=1)),
    "smollm3_window": ("SmolLM3", dict(num_hidden_layers=3, no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=6,
                                       pad_token_id=1, tie_word_embeddings=False)),
}
SEARCHES = [
    dict(),
    dict(repetition_penalty=1.3),
    dict(no_repeat_ngram_size=2, min_new_tokens=4),
    dict(num_beams=3, length_penalty=0.6),
]
NEW_TOKENS = 12


def build(name, settings, seed):
    torch.manual_seed(seed)
    base = GPT2 if name == "GPT2" else LLAMA
    config = getattr(transformers, f"{name}Config")(**{**base, **settings})
    model = getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            norm = "norm" in key.lower() or ".ln_" in key
            spread = 0.1 if norm or parameter.dim() == 1 else 1.2 / parameter.shape[-1] ** 0.5
            parameter.copy_(torch.randn_like(parameter) * spread + (1.0 if norm and key.endswith("weight") else 0.0))
        model.tie_weights()
    return model


def make_old(folder):
    """As OpenAI's own folder: no prefix, the buffers of the mask, few settings, and no generation_config.json."""
    tensors = load_file(folder / "model.safetensors")
    old = {n.removeprefix("transformer."): t for n, t in tensors.items()}
    config = json.loads((folder / "config.json").read_text())
    for layer in range(config["n_layer"]):
        old[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 40, 40).tril()
        old[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    keep = [*GPT2, "model_type", "architectures"]
    config = {k: v for k, v in config.items() if k in keep}
    config.update(n_ctx=40, attn_pdrop=0.1, embd_pdrop=0.1, resid_pdrop=0.1, initializer_range=0.02, layer_norm_epsilon=1e-5,
                  summary_type="cls_index", summary_use_proj=True, summary_activation=None, summary_proj_to_labels=True,
                  summary_first_dropout=0.1, task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}})
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "generation_config.json").unlink(missing_ok=True)


def make_rope_old(folder):
    """What transformers 4 wrote: `rope_theta` and `rope_scaling`."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope["type"] = rope["rope_type"]
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def rounded(values):
    if isinstance(values, list):
        return [rounded(v) for v in values]
    return float(f"{values:.{SIGNIFICANT}g}")


def golden(model, generator):
    number = lambda low, high: int(torch.randint(low, high, (1,), generator=generator))
    text = lambda length: [number(3, model.config.vocab_size) for _ in range(length)]
    texts = [text(number(1, 12)) for _ in range(3)] + [text(38)]
    with torch.no_grad():
        logits = [rounded(model(torch.tensor([ids])).logits[0].tolist()) for ids in texts]
    searches = []
    for options in SEARCHES:
        prompts = [text(number(1, 20)) for _ in range(4)]
        outputs = []
        for prompt in prompts:
            ids = torch.tensor([prompt])
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
                                 pad_token_id=0, **options)
            outputs.append(out[0, len(prompt):].tolist())
        searches.append(dict(options=options, prompts=prompts, outputs=outputs))
    return dict(input_ids=texts, logits=logits, generate=searches)


def main(out):
    torch.set_num_threads(1)
    for seed, (name, (family, settings)) in enumerate(CASES.items()):
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        model = build(family, settings, seed)
        model.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        if name == "gpt2_old":
            make_old(folder)
        if name in ("llama_wide", "qwen2_tied"):
            make_rope_old(folder)
        # The reference is the folder as transformers reads it, not the model that was in memory.
        model = type(model).from_pretrained(folder).eval()
        found = golden(model, torch.Generator().manual_seed(seed))
        (folder / "golden.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
        print(name, sum(p.numel() for p in model.parameters()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
