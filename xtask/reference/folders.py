"""Seeded random folders of odd shapes (marian, m2m_100, bart, mbart, t5, mt5), and what transformers computes with them.

    python folders.py OUTDIR [NAME…]

Writes OUTDIR/NAME/ (config.json, generation_config.json, model.safetensors) and OUTDIR/NAME/golden.json for each case.
golden.json holds
    "logits":   {"input_ids": [[…]], "decoder_input_ids": [[…]], "logits": [[[…]]]}
                ragged rows without padding, computed as one padded batch and cut back
    "generate": [{"name", "settings", "inputs", "sequences", "scores"}]
                settings are keyword arguments of `generate` that differ from the folder's defaults; sequences begin with
                the decoder's start token, end with the end token where there is one, and hold no padding; with
                num_return_sequences = n, n rows stand for each input; scores are `sequences_scores` (null for greedy)
"""

import copy
import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import (BartConfig, BartForConditionalGeneration, M2M100Config, M2M100ForConditionalGeneration, MarianConfig,
                          MarianMTModel, MBartConfig, MBartForConditionalGeneration, MT5Config, MT5ForConditionalGeneration,
                          T5Config, T5ForConditionalGeneration)
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
SIGNIFICANT = 7  # digits of a stored number; f32 has as many

MARIAN = {
    "marian_shared": dict(
        config=dict(vocab_size=41, d_model=24, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4,
                    decoder_attention_heads=3, encoder_ffn_dim=40, decoder_ffn_dim=28, activation_function="swish",
                    max_position_embeddings=48, scale_embedding=True, pad_token_id=40, eos_token_id=0,
                    decoder_start_token_id=40),
        bad_words=True, renormalize=True),
    "marian_old": dict(
        config=dict(vocab_size=37, d_model=12, encoder_layers=1, decoder_layers=3, encoder_attention_heads=2,
                    decoder_attention_heads=6, encoder_ffn_dim=17, decoder_ffn_dim=31, activation_function="relu",
                    max_position_embeddings=40, scale_embedding=False, pad_token_id=36, eos_token_id=3,
                    decoder_start_token_id=36),
        bad_words=True, old=True, forced_eos=True),
    "marian_separate": dict(
        config=dict(vocab_size=53, decoder_vocab_size=44, d_model=20, encoder_layers=2, decoder_layers=2,
                    encoder_attention_heads=5, decoder_attention_heads=2, encoder_ffn_dim=33, decoder_ffn_dim=19,
                    activation_function="gelu", max_position_embeddings=64, scale_embedding=True, pad_token_id=43,
                    eos_token_id=1, decoder_start_token_id=43, share_encoder_decoder_embeddings=False),
        bad_words=False),
    "marian_untied": dict(
        config=dict(vocab_size=47, decoder_vocab_size=39, d_model=16, encoder_layers=2, decoder_layers=1,
                    encoder_attention_heads=1, decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=48,
                    activation_function="relu", max_position_embeddings=48, scale_embedding=True, pad_token_id=38,
                    eos_token_id=2, decoder_start_token_id=5, share_encoder_decoder_embeddings=False,
                    tie_word_embeddings=False),
        bad_words=True),
}
M2M = {
    "m2m_tied": dict(
        config=dict(vocab_size=61, d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4,
                    decoder_attention_heads=2, encoder_ffn_dim=30, decoder_ffn_dim=21, activation_function="relu",
                    max_position_embeddings=48, scale_embedding=True, pad_token_id=1, eos_token_id=2,
                    decoder_start_token_id=2, bos_token_id=0, encoder_layerdrop=0.0, decoder_layerdrop=0.0),
        forced_bos=7, bad_words=False),
    "m2m_odd_pad": dict(
        config=dict(vocab_size=43, d_model=12, encoder_layers=1, decoder_layers=1, encoder_attention_heads=3,
                    decoder_attention_heads=1, encoder_ffn_dim=16, decoder_ffn_dim=50, activation_function="swish",
                    max_position_embeddings=56, scale_embedding=False, pad_token_id=4, eos_token_id=6,
                    decoder_start_token_id=9, bos_token_id=0, encoder_layerdrop=0.0, decoder_layerdrop=0.0),
        bad_words=True, renormalize=True),
    "m2m_untied": dict(
        config=dict(vocab_size=50, d_model=24, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
                    decoder_attention_heads=8, encoder_ffn_dim=27, decoder_ffn_dim=35, activation_function="gelu",
                    max_position_embeddings=48, scale_embedding=True, pad_token_id=1, eos_token_id=2,
                    decoder_start_token_id=2, bos_token_id=0, tie_word_embeddings=False, encoder_layerdrop=0.0,
                    decoder_layerdrop=0.0),
        bad_words=False),
}

BART = {
    "bart_small": dict(
        config=dict(vocab_size=45, d_model=20, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                    decoder_attention_heads=2, encoder_ffn_dim=26, decoder_ffn_dim=34, activation_function="gelu",
                    max_position_embeddings=48, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, bos_token_id=0),
        forced_eos=True, bad_words=True),
    "mbart_small": dict(
        config=dict(vocab_size=49, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
                    decoder_attention_heads=4, encoder_ffn_dim=22, decoder_ffn_dim=30, activation_function="relu",
                    max_position_embeddings=48, scale_embedding=True, pad_token_id=1, eos_token_id=2,
                    decoder_start_token_id=2, bos_token_id=0),
        forced_bos=9, bad_words=False),
}
T5 = {
    "t5_first": dict(
        config=dict(vocab_size=47, d_model=20, d_kv=6, d_ff=34, num_layers=3, num_decoder_layers=2, num_heads=3,
                    relative_attention_num_buckets=8, relative_attention_max_distance=9, feed_forward_proj="relu",
                    pad_token_id=0, eos_token_id=1, decoder_start_token_id=0),
        bad_words=True),
    "t5_gated": dict(
        config=dict(vocab_size=43, d_model=16, d_kv=8, d_ff=22, num_layers=3, num_decoder_layers=1, num_heads=4,
                    relative_attention_num_buckets=12, relative_attention_max_distance=20, feed_forward_proj="gated-gelu",
                    pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, tie_word_embeddings=False),
        own_output=True, bad_words=False),
    "mt5_small": dict(
        config=dict(vocab_size=45, d_model=18, d_kv=4, d_ff=26, num_layers=2, num_decoder_layers=2, num_heads=5,
                    relative_attention_num_buckets=16, relative_attention_max_distance=12, feed_forward_proj="gated-silu",
                    pad_token_id=0, eos_token_id=1, decoder_start_token_id=3),
        own_output=True, bad_words=True),
}
CLASSES = {"t5": (T5Config, T5ForConditionalGeneration), "mt5": (MT5Config, MT5ForConditionalGeneration),
           "marian": (MarianConfig, MarianMTModel), "m2m": (M2M100Config, M2M100ForConditionalGeneration),
           "bart": (BartConfig, BartForConditionalGeneration), "mbart": (MBartConfig, MBartForConditionalGeneration)}

# 200 inputs, and 200 of T5's, are decoded greedily and with four beams; the variants take the first few of each case.
INPUTS = {"marian_shared": 60, "marian_old": 25, "marian_separate": 25, "marian_untied": 20, "m2m_tied": 40,
          "m2m_odd_pad": 15, "m2m_untied": 15, "bart_small": 15, "mbart_small": 15, "t5_first": 80, "t5_gated": 70, "mt5_small": 50}
VARIANT_INPUTS = 6
VARIANTS = {
    "length_penalty_0.6": dict(num_beams=4, length_penalty=0.6),
    "length_penalty_2.0": dict(num_beams=4, length_penalty=2.0),
    "early_stopping": dict(num_beams=4, early_stopping=True),
    "never_stopping": dict(num_beams=4, early_stopping="never", length_penalty=1.5),
    "no_repeat_ngram": dict(num_beams=4, no_repeat_ngram_size=2),
    "repetition_penalty": dict(num_beams=4, repetition_penalty=1.3),
    "greedy_repetition_penalty": dict(num_beams=1, repetition_penalty=1.3),
    "min_length": dict(num_beams=4, min_length=9),
    "max_new_tokens": dict(num_beams=3, max_new_tokens=5),
    "n_best": dict(num_beams=4, num_return_sequences=4),
    "renormalize": dict(num_beams=4, bad_words_ids=[[7], [8]], renormalize_logits=True),
    "not_renormalized": dict(num_beams=4, bad_words_ids=[[7], [8]], renormalize_logits=False),
}


# Standard deviations of the weights, times the square root of their inputs.
GAINS = dict(embedding=2.5, cross=8.0, encoder=0.5, decoder=1.0)


def randomize(model, end_bias):
    """Weights that make outputs depend on the input and end at different lengths.

    Cross-attention and feed-forward blocks speak louder than the residual, or every output would repeat one token; the
    last bias (or the last norm's) leans towards the end token."""
    config = model.config
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" in name and not isinstance(config, BartConfig | MBartConfig):
                continue
            if "layer_norm" in name or "layernorm" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1 + (1.0 if name.endswith("weight") else 0.0))
            elif parameter.dim() == 1:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
            elif "embed_tokens" in name or "shared" in name or "lm_head" in name:
                parameter.copy_(torch.randn_like(parameter) * GAINS["embedding"] / config.d_model**0.5)
            elif "relative_attention_bias" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif name.endswith(("Attention.q.weight", "Attention.k.weight")):
                # Scores are not scaled there.
                parameter.copy_(torch.randn_like(parameter) * 1.5 / (config.d_model**2 * config.d_kv) ** 0.25)
            else:
                part = "cross" if "encoder_attn" in name or "EncDecAttention" in name else "encoder" if ".encoder." in name else "decoder"
                parameter.copy_(torch.randn_like(parameter) * GAINS[part] / parameter.shape[1] ** 0.5)
        model.tie_weights()
        if isinstance(config, T5Config | MT5Config):
            # Neither a bias nor a shift could lean: a longer vector does.
            model.lm_head.weight[config.eos_token_id] *= 1.0 + end_bias / 5
        elif hasattr(model, "final_logits_bias"):
            bias = torch.randn_like(model.final_logits_bias) * 0.5
            bias[0, config.eos_token_id] += end_bias
            model.final_logits_bias.copy_(bias)
        else:
            end = model.lm_head.weight[config.eos_token_id]
            model.model.decoder.layer_norm.bias.add_(end * end_bias / end.square().sum())


def build(name, case, seed):
    torch.manual_seed(seed)
    config_class, model_class = CLASSES[name.split("_")[0]]
    config = config_class(**case["config"])
    model = model_class(config).eval()
    if case.get("own_output"):
        # Version 5 ties the tables whatever the settings say, unless a file holds two.
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        model._tied_weights_keys = {k: v for k, v in model._tied_weights_keys.items() if "lm_head" not in k}
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
    randomize(model, end_bias=1.0 + seed % 5)
    g = model.generation_config
    g.max_length, g.num_beams = 24, 4
    g.bad_words_ids = [[config.pad_token_id]] if case.get("bad_words") else None
    g.renormalize_logits = True if case.get("renormalize") else None
    g.forced_eos_token_id = config.eos_token_id if case.get("forced_eos") else None
    g.forced_bos_token_id = case.get("forced_bos")
    for key in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        setattr(g, key, getattr(config, key))
    return model


def make_old(folder):
    """What folders of 2020 look like: generation settings in config.json, newer keys absent, the output table aliased."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    settings = json.loads((folder / "generation_config.json").read_text())
    for key in ("decoder_vocab_size", "share_encoder_decoder_embeddings", "tie_word_embeddings", "forced_eos_token_id"):
        config.pop(key, None)
    for key in ("max_length", "num_beams", "bad_words_ids", "forced_eos_token_id"):
        if settings.get(key) is not None:
            config[key] = settings[key]
    config.update(add_bias_logits=False, add_final_layer_norm=False, normalize_before=False, normalize_embedding=False,
                  static_position_embeddings=True, num_hidden_layers=config["encoder_layers"], _num_labels=3,
                  classif_dropout=0.0, gradient_checkpointing=False)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "generation_config.json").unlink()


def make_old_t5(folder):
    """As version 4 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key in ("scale_decoder_outputs", "dense_act_fn", "is_gated_act", "dtype"):
        config.pop(key, None)
    config.update(tie_word_embeddings=False, n_positions=512, output_past=True, tokenizer_class="T5Tokenizer", gradient_checkpointing=False,
                  task_specific_params={"translation_en_to_de": {"prefix": "translate English to German: "}})
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def sentences(config, count, vocabulary, generator, end=True):
    special = {config.pad_token_id, config.eos_token_id, config.decoder_start_token_id}
    words = [i for i in range(vocabulary) if i not in special]
    rows = []
    for _ in range(count):
        length = int(torch.randint(1, 11, (1,), generator=generator))
        row = [words[int(torch.randint(len(words), (1,), generator=generator))] for _ in range(length)]
        rows.append(row + ([config.eos_token_id] if end else []))
    return rows


def padded(rows, pad):
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def rounded(values):
    if isinstance(values, list):
        return [rounded(v) for v in values]
    return float(f"{values:.{SIGNIFICANT}g}")


def golden_logits(model, generator):
    config = model.config
    target_size = model.lm_head.weight.shape[0]
    source = sentences(config, 6, config.vocab_size, generator)
    target = [[config.decoder_start_token_id] + row for row in sentences(config, 6, target_size, generator, end=False)]
    ids, mask = padded(source, config.pad_token_id)
    decoder_ids, decoder_mask = padded(target, config.pad_token_id)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder_ids,
                       decoder_attention_mask=decoder_mask).logits
    cut = [rounded(logits[i, : len(row)].tolist()) for i, row in enumerate(target)]
    return {"input_ids": source, "decoder_input_ids": target, "logits": cut}


def without_padding(row, config):
    """Cuts a row after its end token; the start token may be the padding or the end token itself."""
    for place, token in enumerate(row[1:], start=1):
        if token == config.eos_token_id:
            return row[: place + 1]
    end = len(row)
    while end > 1 and row[end - 1] == config.pad_token_id:
        end -= 1
    return row[:end]


def generate(model, name, rows, settings):
    ids, mask = padded(rows, model.config.pad_token_id)
    out = model.generate(input_ids=ids, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **settings)
    beams = settings.get("num_beams", model.generation_config.num_beams)
    scores = rounded(out.sequences_scores.tolist()) if beams > 1 else None
    sequences = [without_padding(row, model.config) for row in out.sequences.tolist()]
    return {"name": name, "settings": settings, "inputs": rows, "sequences": sequences, "scores": scores}


def dump(golden, path):
    """One line for each run: small, and a change shows where it is."""
    runs = ",\n".join(json.dumps(run, separators=(",", ":")) for run in golden["generate"])
    logits = json.dumps(golden["logits"], separators=(",", ":"))
    path.write_text(f'{{"logits":{logits},\n"generate":[\n{runs}\n]}}\n')


def variety(model, rows):
    """How different the outputs of these inputs are: the share of distinct ones, and of those that end by themselves."""
    runs = [generate(model, "", rows, dict(num_beams=n))["sequences"] for n in (1, 4)]
    every = [tuple(s) for run in runs for s in run]
    limit = model.generation_config.max_length
    long = sum(6 <= len(s) for s in every) / len(every)
    ended = sum(len(s) < limit for s in every) / len(every)
    return min(len({tuple(s) for s in run}) / len(run) for run in runs), ended, long


def first_lively(name, case, generator):
    """The first seed whose outputs are neither all alike nor all cut off."""
    for seed in range(1000):
        model = build(name, case, seed)
        rows = sentences(model.config, 20, model.config.vocab_size, generator)
        distinct, ended, long = variety(model, rows)
        if distinct >= 0.75 and ended >= 0.35 and long >= 0.5:
            return model, seed
    sys.exit(f"{name}: no seed gives lively outputs")


def steady_rows(model, count, generator):
    """Inputs on whose output f32 and f64 agree: no near-tie decides it."""
    double = copy.deepcopy(model).double().eval()
    rows = []
    while len(rows) < count:
        row = sentences(model.config, 1, model.config.vocab_size, generator)
        same = all(generate(model, "", row, dict(num_beams=n))["sequences"]
                   == generate(double, "", row, dict(num_beams=n))["sequences"] for n in (1, 4))
        if same:
            rows += row
    return rows


def main(out, names):
    torch.set_num_threads(1)
    for number, (name, case) in enumerate({**MARIAN, **M2M, **BART, **T5}.items()):
        if names and name not in names:
            continue
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        generator = torch.Generator().manual_seed(number)
        model, seed = first_lively(name, case, generator)
        model.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        if case.get("old"):
            make_old(folder)
        if name == "t5_gated":
            make_old_t5(folder)
        # The reference is the folder as transformers reads it, not the model that was in memory.
        model = type(model).from_pretrained(folder).eval()
        rows = steady_rows(model, INPUTS[name], generator)
        runs = [generate(model, "greedy", rows, dict(num_beams=1)), generate(model, "beam", rows, dict(num_beams=4))]
        variants = dict(VARIANTS)
        if name.startswith("m2m"):
            variants["forced_bos"] = dict(num_beams=4, forced_bos_token_id=11)
        runs += [generate(model, v, rows[:VARIANT_INPUTS], settings) for v, settings in variants.items()]
        dump({"logits": golden_logits(model, generator), "generate": runs}, folder / "golden.json")
        for run in runs[:2]:
            lengths = sorted(len(s) - 1 for s in run["sequences"])
            distinct = len({tuple(s) for s in run["sequences"]})
            print(f"{name:16} seed {seed:3} {run['name']:7} lengths {lengths[0]}–{lengths[-1]} (median {lengths[len(lengths) // 2]}), "
                  f"{distinct} distinct of {len(lengths)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
