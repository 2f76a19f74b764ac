#!/usr/bin/env bash
# What a released version wrote, kept so that every later one opens it (crates/cli/tests/releases.rs).
#
#   release.sh HEXAPLA FOLDER     HEXAPLA: the binary of that release; FOLDER: crates/cli/tests/releases/VERSION
#
# Three trainings, one for each family of folders, are stopped on the way by SIGTERM. Of each the folder holds the recipe, the
# stopped training with all its files (NAME/stopped), the log of the same training that was not stopped (NAME/log.jsonl), the
# finished model (NAME/model) and its translations (NAME/translations.txt). `int8` is the first model, converted.
set -euo pipefail
hexapla=$(realpath "$1")
mkdir -p "$2"
cd "$2"

python3 - <<'PAIRS'
import random

draw = random.Random(1)
nouns = {"cat": "猫", "dog": "狗", "bird": "鸟", "fish": "鱼", "horse": "马", "cow": "牛"}
verbs = {"sees": "看见", "likes": "喜欢", "hears": "听见", "finds": "找到"}
adjectives = {"": "", "big": "大", "small": "小", "old": "老", "red": "红"}
pairs = set()
while len(pairs) < 240:
    a, b, verb, adjective = (draw.choice(list(words)) for words in (nouns, nouns, verbs, adjectives))
    source = f"the {a} {verb} the {adjective} {b}.".replace("  ", " ")
    pairs.add((source, f"{nouns[a]}{verbs[verb]}{adjectives[adjective]}{nouns[b]}。"))
pairs = sorted(pairs)
draw.shuffle(pairs)
with open("pairs.tsv", "w") as file:
    file.writelines(f"{source}\t{target}\n" for source, target in pairs)
with open("lines.txt", "w") as file:
    file.writelines(f"{source}\n" for source, _ in pairs[:20])
PAIRS

recipe() { # NAME MODEL TOKENIZER TRAINING
    cat >"$1.toml" <<RECIPE
[model]
d_model = 8
layers = 1
heads = 2
feed_forward = 16
$2

[data]
tsv = "pairs.tsv"
valid_pairs = 20

[tokenizer]
kind = "bpe"
vocab_size = 320
$3

[training]
batch_tokens = 256
learning_rate = 0.01
warmup_steps = 20
max_steps = 800
save_every = 100
valid_every = 200
average_checkpoints = 1
patience = 0
$4
RECIPE
}
recipe marian 'dropout = 0.1' '' ''
recipe m2m_100 'norm = "pre"
positions = "sinusoidal_halves_fairseq"' 'special_tokens = [">>zh<<"]' 'optimizer = "muon"
ema_decay = 0.9'
recipe hexapla 'positions = "learned"
norm = "pre"' 'joint = false' 'bpe_dropout = 0.1
schedule = "cosine"'

for name in marian m2m_100 hexapla; do
    rm -rf "$name"
    mkdir "$name"
    until "$hexapla" train --config "$name.toml" --output "$name/stopped" &
        pid=$!
        # Late enough for a checkpoint and a validation, early enough for some steps to be left.
        while [ "$(wc -l <"$name/stopped/training/log.jsonl" 2>/dev/null || echo 0)" -lt 300 ]; do sleep 0.01; done
        kill -TERM $pid
        ! wait $pid && [ "$(wc -l <"$name/stopped/training/log.jsonl")" -lt 700 ]; do
        rm -rf "$name/stopped"
    done
    "$hexapla" train --config "$name.toml" --output "$name/model"
    mv "$name/model/training/log.jsonl" "$name/log.jsonl"
    rm -rf "$name/model/training" "$name/model/report.html" "$name/stopped/training/tensorboard"
    "$hexapla" translate --model "$name/model" --input lines.txt --scores >"$name/translations.txt"
done
rm -rf int8
mkdir int8
"$hexapla" convert marian/model --output int8/model
"$hexapla" translate --model int8/model --input lines.txt --scores >int8/translations.txt
