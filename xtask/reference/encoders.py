"""Seeded random encoder folders of odd shapes, one for each family and head, and what transformers computes with them.

    python encoders.py OUTDIR

Writes OUTDIR/NAME/ (config.json, model.safetensors) and OUTDIR/NAME/golden.json for each case. golden.json holds
    {"input_ids": [[…]], "token_type_ids": [[…]] or null, "logits" or "hidden": …}
ragged rows without padding, computed as one padded batch and cut back; logits are [text][token][class] or [text][class].
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

BERT = dict(vocab_size=37, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=17,
            max_position_embeddings=24, type_vocab_size=2)
ROBERTA = {**BERT, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DISTIL = dict(vocab_size=37, dim=12, n_layers=2, n_heads=3, hidden_dim=17, max_position_embeddings=24)
ELECTRA = {**BERT, "embedding_size": 8}
MPNET = {**ROBERTA, "max_position_embeddings": 180, "relative_attention_num_buckets": 32}
MPNET.pop("type_vocab_size")
NAMES = {"id2label": {0: "no", 1: "yes", 2: "perhaps"}, "label2id": {"no": 0, "yes": 1, "perhaps": 2}}

# Name: class prefix, class suffix, settings.
CASES = {
    "bert_bare": ("Bert", "Model", dict(hidden_act="gelu_new", layer_norm_eps=1e-5)),
    "bert_masked": ("Bert", "ForMaskedLM", {}),
    "bert_old": ("Bert", "ForPreTraining", dict(hidden_act="relu")),
    "bert_classes": ("Bert", "ForSequenceClassification", NAMES),
    "bert_reranker": ("Bert", "ForSequenceClassification", dict(num_labels=1)),
    "bert_tokens": ("Bert", "ForTokenClassification", NAMES),
    "roberta_bare": ("Roberta", "Model", {}),
    "roberta_masked": ("Roberta", "ForMaskedLM", {}),
    "roberta_classes": ("Roberta", "ForSequenceClassification", dict(problem_type="multi_label_classification")),
    "roberta_tokens": ("Roberta", "ForTokenClassification", NAMES),
    "camembert_masked": ("Camembert", "ForMaskedLM", {}),
    "xlm_roberta_bare": ("XLMRoberta", "Model", dict(pad_token_id=4)),
    "xlm_roberta_classes": ("XLMRoberta", "ForSequenceClassification", dict(num_labels=1)),
    "distilbert_bare": ("DistilBert", "Model", dict(sinusoidal_pos_embds=True)),
    "distilbert_masked": ("DistilBert", "ForMaskedLM", dict(activation="relu")),
    "distilbert_classes": ("DistilBert", "ForSequenceClassification", NAMES),
    "distilbert_tokens": ("DistilBert", "ForTokenClassification", {}),
    "electra_bare": ("Electra", "Model", dict(embedding_size=12)),
    "electra_masked": ("Electra", "ForMaskedLM", dict(hidden_act="relu")),
    "electra_replaced": ("Electra", "ForPreTraining", {}),
    "electra_classes": ("Electra", "ForSequenceClassification", dict(hidden_act="relu")),
    "electra_tokens": ("Electra", "ForTokenClassification", NAMES),
    "mpnet_bare": ("MPNet", "Model", {}),
    "mpnet_masked": ("MPNet", "ForMaskedLM", {}),
    "mpnet_classes": ("MPNet", "ForSequenceClassification", NAMES),
    "mpnet_tokens": ("MPNet", "ForTokenClassification", {}),
}
SETTINGS = {"Bert": BERT, "Roberta": ROBERTA, "Camembert": ROBERTA, "XLMRoberta": ROBERTA, "DistilBert": DISTIL,
            "Electra": ELECTRA, "MPNet": MPNET}


def build(prefix, suffix, settings, seed):
    torch.manual_seed(seed)
    config = getattr(transformers, f"{prefix}Config")(**{**SETTINGS[prefix], **settings})
    model = getattr(transformers, f"{prefix}{suffix}")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "norm" in name.lower()
            spread = 0.1 if norm or parameter.dim() == 1 else 0.7 / parameter.shape[-1] ** 0.5
            parameter.copy_(torch.randn_like(parameter) * spread + (1.0 if norm and name.endswith("weight") else 0.0))
        model.tie_weights()
    return model


def make_old(folder):
    """What files of 2018 look like: the norms' numbers are called gamma and beta, and few settings are written."""
    tensors = load_file(folder / "model.safetensors")
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
           for n, t in tensors.items()}
    old["bert.embeddings.position_ids"] = torch.arange(BERT["max_position_embeddings"])
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    keep = {**BERT, "hidden_act": None, "architectures": None, "model_type": None}
    config = {k: v for k, v in config.items() if k in keep}
    config.update(attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1, initializer_range=0.02, pooler_type="first",
                  pooler_fc_size=12, directionality="bidi")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def rounded(values):
    if isinstance(values, list):
        return [rounded(v) for v in values]
    return float(f"{values:.{SIGNIFICANT}g}")


def golden(model, longest, generator):
    config = model.config
    number = lambda low, high: int(torch.randint(low, high, (1,), generator=generator))
    pad = config.pad_token_id
    words = [i for i in range(config.vocab_size) if i != pad]
    rows = [[words[number(0, len(words))] for _ in range(number(1, 12))] for _ in range(4)] + [
        [words[number(0, len(words))] for _ in range(longest)]]
    segments = None
    if getattr(config, "type_vocab_size", 0) > 1:
        cut = [number(0, len(row) + 1) for row in rows]
        segments = [[int(i >= c) for i in range(len(row))] for row, c in zip(rows, cut)]
    width = max(map(len, rows))
    padded = lambda rows, fill: torch.tensor([row + [fill] * (width - len(row)) for row in rows])
    inputs = {"input_ids": padded(rows, pad), "attention_mask": padded([[1] * len(r) for r in rows], 0)}
    if segments:
        inputs["token_type_ids"] = padded(segments, 0)
    with torch.no_grad():
        out = model(**inputs)
    found = {"input_ids": rows, "token_type_ids": segments}
    if "last_hidden_state" in out:
        found["hidden"] = [rounded(out.last_hidden_state[i, : len(r)].tolist()) for i, r in enumerate(rows)]
        return found
    logits = out.logits if "logits" in out else out.prediction_logits
    if logits.shape[:2] == (len(rows), width):
        found["logits"] = [rounded(logits[i, : len(r)].tolist()) for i, r in enumerate(rows)]
        if logits.dim() == 2:
            found["logits"] = [[[x] for x in row] for row in found["logits"]]
    else:
        found["logits"] = rounded(logits.tolist())
    return found


def main(out):
    torch.set_num_threads(1)
    for seed, (name, (prefix, suffix, settings)) in enumerate(CASES.items()):
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        model = build(prefix, suffix, settings, seed)
        model.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        if name == "bert_old":
            make_old(folder)
        # The reference is the folder as transformers reads it, not the model that was in memory.
        model = type(model).from_pretrained(folder).eval()
        longest = 150 if prefix == "MPNet" else 18
        found = golden(model, longest, torch.Generator().manual_seed(seed))
        (folder / "golden.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
        print(name, sum(p.numel() for p in model.parameters()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
