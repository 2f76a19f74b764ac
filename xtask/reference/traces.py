"""Attentions and hidden states that transformers computes with the golden folders.

    python traces.py GOLDEN

Reads GOLDEN/NAME for each folder below and writes GOLDEN/traces/NAME.json:
    {"input_ids": [...], "token_type_ids": [...] or null, "decoder_input_ids": [...] or null,
     "encoder_attentions", "decoder_attentions", "cross_attentions": [layer][head][query][key],
     "encoder_hidden_states", "decoder_hidden_states": [embedding and each layer][row][d_model]}
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
SIGNIFICANT = 7  # digits of a stored number; f32 has as many

BOTH = ["marian_shared", "marian_separate", "m2m_tied", "m2m_untied", "bart_small", "mbart_small"]
ENCODERS = ["bert_bare", "roberta_bare", "distilbert_bare", "electra_bare", "mpnet_bare", "bert_masked"]


def rounded(values):
    if isinstance(values, list):
        return [rounded(v) for v in values]
    return float(f"{values:.{SIGNIFICANT}g}")


def numbers(tensors):
    return [rounded(t[0].tolist()) for t in tensors]


def longest(rows):
    """A text with something to look at, and its place."""
    return max(range(len(rows)), key=lambda i: min(len(rows[i]), 8))


def trace_of_both(folder):
    golden = json.loads((folder / "golden.json").read_text())["logits"]
    i = longest(golden["input_ids"])
    source, target = golden["input_ids"][i], golden["decoder_input_ids"][i]
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        out = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target]), output_attentions=True,
                    output_hidden_states=True)
    return {
        "input_ids": source, "token_type_ids": None, "decoder_input_ids": target,
        "encoder_attentions": numbers(out.encoder_attentions),
        "decoder_attentions": numbers(out.decoder_attentions),
        "cross_attentions": numbers(out.cross_attentions),
        "encoder_hidden_states": numbers(out.encoder_hidden_states),
        "decoder_hidden_states": numbers(out.decoder_hidden_states),
    }


def trace_of_encoder(folder):
    golden = json.loads((folder / "golden.json").read_text())
    i = longest(golden["input_ids"])
    source = golden["input_ids"][i]
    segments = golden["token_type_ids"] and golden["token_type_ids"][i]
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = {"input_ids": torch.tensor([source])}
    if segments:
        inputs["token_type_ids"] = torch.tensor([segments])
    with torch.no_grad():
        out = model(**inputs, output_attentions=True, output_hidden_states=True)
    return {
        "input_ids": source, "token_type_ids": segments, "decoder_input_ids": None,
        "encoder_attentions": numbers(out.attentions),
        "encoder_hidden_states": numbers(out.hidden_states),
    }


def main():
    root = Path(sys.argv[1])
    (root / "traces").mkdir(exist_ok=True)
    for name in BOTH:
        write(root, name, trace_of_both(root / name))
    for name in ENCODERS:
        write(root, name, trace_of_encoder(root / "encoders" / name))


def write(root, name, found):
    (root / "traces" / f"{name}.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
