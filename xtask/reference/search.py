"""Writes the golden results of the search: ids, scores and sampling distributions of transformers' generate().

Usage: python xtask/reference/search.py crates/hexapla/tests/golden/search.json
Needs: torch, transformers (the versions used are written into the file).

The model is a table: the logits of the next token depend on the last two tokens alone, and the token "before" the
decoder's start token is the one source token. The table is written with the results (integers, to be divided by
`scale`, so that every reader has the same bits), and the test decodes from it.
"""

import json
import random
import sys
import warnings

import torch
import transformers
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

VOCAB, SCALE = 13, 256
EOS, PAD = 0, VOCAB - 1
SEED = 20


class TableConfig(PreTrainedConfig):
    model_type = "table"

    def __init__(self, **kwargs):
        kwargs.setdefault("is_encoder_decoder", True)
        super().__init__(**kwargs)
        self.vocab_size = VOCAB
        self.hidden_size = 1
        self.num_hidden_layers = 1
        self.num_attention_heads = 1


class SourceToken(torch.nn.Module):
    """The encoder: passes the source token on as a number."""

    main_input_name = "input_ids"

    def forward(self, input_ids, attention_mask=None, **_):
        return BaseModelOutput(last_hidden_state=input_ids[:, :, None].float())


class TableModel(PreTrainedModel, GenerationMixin):
    config_class = TableConfig
    main_input_name = "input_ids"
    _supports_cache_class = False

    def __init__(self, config, table):
        super().__init__(config)
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.table = table
        self.encoder = SourceToken()

    def get_encoder(self, *_, **__):
        return self.encoder

    def forward(self, input_ids=None, encoder_outputs=None, decoder_input_ids=None, **_):
        source = encoder_outputs[0][:, 0, 0].long()
        history = torch.cat([source[:, None], decoder_input_ids], dim=1)
        return Seq2SeqLMOutput(logits=self.table[history[:, -2], history[:, -1]][:, None, :])


def random_table(generator):
    """Integer logits, all different within a row: torch.topk breaks ties as it likes."""
    table = torch.randn(VOCAB, VOCAB, VOCAB, generator=generator) * 1.5
    table[:, :, EOS] += 0.6
    integers = (table * SCALE).round().to(torch.int64)
    for row in integers.view(-1, VOCAB):
        while (repeated := [i for i in range(VOCAB) if row[i] in row[:i]]):
            row[repeated] += 1
    return integers


def cut(ids):
    """Without the start token, up to and with the first end token."""
    ids = ids[1:]
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids


def run(model, source, options):
    beams = options["beam_size"]
    arguments = {
        "num_beams": beams,
        "num_return_sequences": options["n_best"],
        "max_new_tokens": options["max_length"],
        "min_new_tokens": options["min_length"] or None,
        "repetition_penalty": options["repetition_penalty"],
        "no_repeat_ngram_size": options["no_repeat_ngram_size"],
        "bad_words_ids": [[i] for i in options["suppressed"]] or None,
        "forced_bos_token_id": options["forced_bos"],
        "forced_eos_token_id": options["forced_eos"],
        "decoder_start_token_id": PAD,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "do_sample": False,
        "use_cache": False,
        "output_scores": True,
        "return_dict_in_generate": True,
    }
    if beams > 1:
        arguments["length_penalty"] = options["length_penalty"]
        arguments["early_stopping"] = {"true": True, "false": False}.get(options["early_stopping"], "never")
    output = model.generate(torch.tensor([[source]]), **arguments)
    transitions = model.compute_transition_scores(
        output.sequences,
        output.scores,
        output.beam_indices if beams > 1 else None,
        normalize_logits=beams == 1,
    )
    hypotheses = []
    for row, ids in enumerate(output.sequences.tolist()):
        ids = cut(ids)
        token_log_probs = [round(x, 6) for x in transitions[row, : len(ids)].tolist()]
        score = output.sequences_scores[row].item() if beams > 1 else None
        # A score near -1e9 marks a place of the beam that no real hypothesis ever filled.
        if score is not None and score < -1e6:
            continue
        hypotheses.append({"ids": ids, "score": None if score is None else round(score, 6), "token_log_probs": token_log_probs})
    return hypotheses


def plain():
    return {
        "beam_size": 4, "n_best": 1, "max_length": 12, "min_length": 0, "length_penalty": 1.0,
        "early_stopping": "false", "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "suppressed": [],
        "forced_bos": None, "forced_eos": None,
    }


def all_options(chooser):
    for max_length in (1, 2, 7, 15):
        yield plain() | {"beam_size": 1, "max_length": max_length}
    for beam_size in (2, 3, 5):
        for length_penalty in (-0.5, 0.0, 0.6, 1.0, 2.0):
            for early_stopping in ("false", "true", "never"):
                yield plain() | {
                    "beam_size": beam_size, "length_penalty": length_penalty, "early_stopping": early_stopping,
                    "max_length": chooser.choice((3, 8, 14)), "n_best": chooser.choice((1, beam_size)),
                    "suppressed": chooser.choice(([], [PAD])),
                }
    for _ in range(110):
        beam_size = chooser.choice((1, 1, 2, 3, 4, 4))
        yield plain() | {
            "beam_size": beam_size,
            "n_best": 1 if beam_size == 1 else chooser.randint(1, beam_size),
            "max_length": chooser.choice((2, 4, 9, 16)),
            "min_length": chooser.choice((0, 0, 2, 5)),
            "length_penalty": chooser.choice((0.0, 0.8, 1.0, 1.4)),
            "early_stopping": chooser.choice(("false", "true", "never")),
            "repetition_penalty": chooser.choice((1.0, 1.3, 2.0, 0.7)),
            "no_repeat_ngram_size": chooser.choice((0, 0, 2, 3)),
            "suppressed": chooser.choice(([], [PAD], [PAD, 5], [EOS, 3])),
            "forced_bos": chooser.choice((None, None, 4)),
            "forced_eos": chooser.choice((None, None, EOS)),
        }


def warper_cases(table, chooser):
    """What temperature, top-k and top-p leave of a row of logits."""
    for _ in range(60):
        row = chooser.randrange(VOCAB), chooser.randrange(VOCAB)
        scores = table[row][None]
        temperature = chooser.choice((0.3, 0.7, 1.0, 1.5))
        top_k = chooser.choice((0, 0, 1, 3, 7, 40))
        top_p = chooser.choice((1.0, 0.95, 0.8, 0.5, 0.1))
        scores = TemperatureLogitsWarper(temperature)(None, scores)
        if top_k > 0:
            scores = TopKLogitsWarper(top_k)(None, scores)
        if top_p < 1.0:
            scores = TopPLogitsWarper(top_p)(None, scores)
        probabilities = torch.softmax(scores, dim=-1)[0].tolist()
        yield {
            "row": list(row), "temperature": temperature, "top_k": top_k, "top_p": top_p,
            "probabilities": [float(f"{p:.7g}") for p in probabilities],
        }


def main(path):
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    # A minimum above the maximum is wanted here; it is warned of.
    warnings.simplefilter("ignore")
    chooser = random.Random(SEED)
    integers = random_table(torch.Generator().manual_seed(SEED))
    table = integers.float() / SCALE
    model = TableModel(TableConfig(), table).eval()
    cases = []
    for options in all_options(chooser):
        sources = chooser.sample(range(VOCAB), 4)
        results = [{"source": s, "hypotheses": run(model, s, options)} for s in sources]
        cases.append({"options": options, "results": results})
    golden = {
        "torch": torch.__version__, "transformers": transformers.__version__,
        "vocab": VOCAB, "scale": SCALE, "eos": EOS, "start": PAD,
        "table": integers.flatten().tolist(),
        "cases": cases, "sampling": list(warper_cases(table, chooser)),
    }
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        parts = ",\n".join(f"{json.dumps(k)}: " + (
            "[\n" + ",\n".join(json.dumps(x) for x in v) + "\n]" if k in ("cases", "sampling") else json.dumps(v)
        ) for k, v in golden.items())
        file.write("{\n" + parts + "\n}\n")
    count = sum(len(c["results"]) for c in cases)
    print(f"{path}: {len(cases)} sets of options, {count} searches")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
