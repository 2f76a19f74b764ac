"""A Marian model of random weights in the paper's base size, for the decoding benchmarks.

    python make_model.py FOLDER

Writes FOLDER as `save_pretrained` does, with vocab.json and a tokenizer.json of whole words `w2`, `w3`, …, and in it
FOLDER/ctranslate2-float32 and FOLDER/ctranslate2-int8, made by CTranslate2's own converter.

Random weights say random things, and near-ties are common: an engine that rounds differently then decodes differently
although nothing is wrong. So the embedding table is not drawn at random but walked: row i + 1 is row i turned by one fixed
random rotation, and the last feed-forward block adds GAIN times the turned vector. The likeliest word after `w17` is then
`w18` by a wide margin, whatever attention, which is random, says; the first word depends on the source alone.
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import sentencepiece
import torch
from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MarianConfig, MarianMTModel
from transformers.utils import logging

VOCABULARY, WIDTH, PAD, EOS, UNK = 32000, 512, 31999, 0, 1
# What the last feed-forward block adds, and what every other block but cross-attention is scaled by: post-norm halves what
# came before at each sum, and after a stack of them nothing would be left of the words themselves, source or target.
GAIN, QUIET = 3.0, 0.3


def build():
    config = MarianConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8,
        decoder_attention_heads=8, encoder_ffn_dim=2048, decoder_ffn_dim=2048, activation_function="swish",
        max_position_embeddings=1024, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None, decoder_start_token_id=PAD,
        forced_eos_token_id=None, scale_embedding=True, static_position_embeddings=True,
        share_encoder_decoder_embeddings=True, tie_word_embeddings=True)
    model = MarianMTModel(config).eval()
    model.generation_config.bad_words_ids = None
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2 and "embed" not in name:
                torch.nn.init.xavier_uniform_(p)
                if "self_attn.out_proj" in name or "fc2" in name:
                    p.mul_(QUIET)
        rotation = turn()
        table = walk(rotation)
        # The decoder starts with padding, and CTranslate2 takes its row for zero, as in models that Marian trained.
        table[PAD] = 0
        model.model.shared.weight.copy_(table)
        follow(model.model.decoder.layers[-1], rotation)
        # No engine may produce padding; not all have a setting for it.
        model.final_logits_bias[0, PAD] = -1e4
    return model


def turn():
    """A random rotation of WIDTH dimensions."""
    q, r = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64))
    return q * r.diagonal().sign()


def walk(rotation):
    """Rows of length 1, each the turned one before."""
    rows = [torch.nn.functional.normalize(torch.randn(WIDTH, dtype=torch.float64), dim=0)]
    for _ in range(VOCABULARY - 1):
        rows.append(rotation @ rows[-1])
    return torch.stack(rows).float()


def follow(layer, rotation):
    """Makes a feed-forward block compute GAIN · rotation · x in half of its rows: swish(x) − swish(−x) = x."""
    first, second = layer.fc1.weight, layer.fc2.weight
    first[:WIDTH], first[WIDTH:2 * WIDTH] = torch.eye(WIDTH), -torch.eye(WIDTH)
    second[:, :WIDTH], second[:, WIDTH:2 * WIDTH] = GAIN * rotation.float(), -GAIN * rotation.float()


def write_tokenizers(folder, words):
    """What MarianTokenizer wants to see before it lets a folder be converted, and a tokenizer.json."""
    corpus = folder / "corpus.txt"
    lines = (" ".join(random.choices(list(words), k=12)) for _ in range(2000))
    corpus.write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(folder / "source"), vocab_size=60,
                                             hard_vocab_limit=False, minloglevel=2)
    (folder / "source.model").rename(folder / "source.spm")
    shutil.copy(folder / "source.spm", folder / "target.spm")
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(dict(tokenizer_class="MarianTokenizer", source_lang="a", target_lang="b")))
    for name in ("corpus.txt", "source.vocab"):
        os.remove(folder / name)


def main(folder):
    logging.set_verbosity_error()
    torch.manual_seed(0)
    random.seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = {"</s>": EOS, "<unk>": UNK} | {f"w{i}": i for i in range(2, PAD)} | {"<pad>": PAD}
    build().save_pretrained(folder)
    write_tokenizers(folder, words)
    for compute_type in ("float32", "int8"):
        TransformersConverter(str(folder)).convert(str(folder / f"ctranslate2-{compute_type}"),
                                                   quantization=compute_type, force=True)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
