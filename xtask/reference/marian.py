"""Small models trained by Marian (pymarian) on a made-up language, and how Marian translates with them.

    python marian.py OUTDIR

Writes OUTDIR/NAME/ (model.npz, model.npz.decoder.yml, vocabularies) for each case, and OUTDIR/NAME/golden.json:
    "inputs":     texts
    "normalize":  the exponent of the length that scores are divided by
    "beams":      {beam size: [{"text", "score"}, …]}, the best hypothesis of each input; nothing where it was cut at its
                  longest length
A made-up text is words of a lexicon; its translation is their translations in reverse order, with an ending for the place.
"""

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pymarian
import yaml

NORMALIZE = 0.6
SYLLABLES = ["ka", "ro", "mi", "te", "su", "na", "lo", "pe", "vi", "do", "ša", "łu", "ée"]
CASES = {
    # All tables are one; a SentencePiece model.
    "marian_tied": dict(vocabularies=["vocab.spm"], tied_embeddings_all=True, transformer_ffn_activation="swish"),
    # No table is another; a norm of the embeddings; a narrower decoder.
    "marian_apart": dict(vocabularies=["s.spm", "t.spm"], transformer_ffn_activation="relu", transformer_postprocess_emb="nd",
                         transformer_decoder_dim_ffn=40),
    # Words of a YAML file; the target's table is the output's.
    "marian_words": dict(vocabularies=["s.yml", "t.yml"], tied_embeddings=True, transformer_ffn_activation="gelu"),
    # One table for both sides, another for the output, which has no bias.
    "marian_sides": dict(vocabularies=["vocab.spm"], tied_embeddings_src=True, output_omit_bias=True),
    # Pre-norm. This version's decoder norms keys in its first step alone, so that only first tokens can be compared.
    "marian_pre": dict(vocabularies=["vocab.spm"], tied_embeddings_all=True, transformer_preprocess="n",
                       transformer_postprocess="da", transformer_postprocess_top="n"),
}


def language(seed):
    rng = random.Random(seed)
    words = sorted({"".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(60)})
    other = {word: "".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for word in words}

    def pair():
        text = rng.choices(words, k=rng.randint(1, 6))
        return " ".join(text), " ".join(other[w] + ("n" if i % 2 else "") for i, w in enumerate(reversed(text)))

    return pair


def make(folder, case):
    case = dict(case)
    names = case.pop("vocabularies")
    pair = language(3)
    pairs = [pair() for _ in range(4000)]
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for name, side in (("s.txt", 0), ("t.txt", 1)):
            (work / name).write_text("".join(p[side] + "\n" for p in pairs))
            if names[0].endswith(".yml"):
                words = sorted({w for p in pairs[:300] for w in p[side].split()})
                ids = {w: i for i, w in enumerate(["</s>", "<unk>"] + words)}
                (folder / name.replace("txt", "yml")).write_text(yaml.safe_dump(ids, allow_unicode=True))
        vocabularies = [str(folder / n) for n in names] * (2 if len(names) == 1 else 1)
        sizes = [0, 0] if names[0].endswith(".yml") else [90 if len(names) == 1 else 50] * 2
        model = folder / "model.npz"
        pymarian.Trainer(
            type="transformer", train_sets=[str(work / "s.txt"), str(work / "t.txt")], model=str(model), vocabs=vocabularies,
            dim_vocabs=sizes, dim_emb=32, transformer_heads=4, transformer_dim_ffn=48, enc_depth=2, dec_depth=2,
            mini_batch=64, after="1500u", cpu_threads=1, learn_rate=0.005, lr_warmup="100", seed=1, save_freq="1500u",
            overwrite=True, quiet=True, workspace=500, sentencepiece_options="--normalization_rule_name=identity",
            **case).train()
        for extra in ("model.npz.optimizer.npz", "model.npz.progress.yml", "model.npz.yml"):
            (folder / extra).unlink(missing_ok=True)
        # As a model is passed on: without the paths of the machine that it was trained on.
        settings = yaml.safe_load((folder / "model.npz.decoder.yml").read_text())
        settings.update({"relative-paths": True, "models": ["model.npz"], "vocabs": [Path(v).name for v in vocabularies],
                         "beam-size": 4, "normalize": NORMALIZE})
        (folder / "model.npz.decoder.yml").write_text(yaml.safe_dump(settings, sort_keys=False))

    unseen = [pair() for _ in range(120)]
    inputs = [source for source, _ in unseen]
    longest = 3.0

    def translate(beam, factor):
        translator = pymarian.Translator(models=[str(model)], vocabs=vocabularies, beam_size=beam, normalize=NORMALIZE, n_best=True,
                                         cpu_threads=1, mini_batch=1, maxi_batch=1, quiet=True, max_length_factor=factor)
        best = {}
        for answer in "\n".join(translator.translate(inputs)).splitlines():
            number, text, *_, score = [part.strip() for part in answer.split("|||")]
            best.setdefault(int(number), {"text": text, "score": float(score)})
        found = [best[number] for number in range(len(inputs))]
        return found

    if "pre" in folder.name:
        # One token.
        return {"inputs": inputs, "normalize": NORMALIZE, "first": translate(1, 0.01)}
    beams = {}
    for beam in (1, 4, 12):
        found, further = translate(beam, longest), translate(beam, longest + 1)
        # What a higher limit changes was cut.
        beams[str(beam)] = [f if f == g else None for f, g in zip(found, further)]
    return {"inputs": inputs, "normalize": NORMALIZE, "beams": beams}


def main():
    out = Path(sys.argv[1])
    for name, case in CASES.items():
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        golden = make(folder, case)
        (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")
        beams = golden.get("beams", {})
        print(name, {beam: sum(f is not None for f in found) for beam, found in beams.items()},
              [f["text"] for f in golden.get("first", beams.get("4"))[:3] if f])


main()
