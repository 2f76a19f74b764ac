"""A whole training with PyTorch, beside ours from the same weights on the same pairs (`cargo xtask race`).

    python race_torch.py JOB.json (lengths|drawn) (float32|bf16) (fused|plain)

Batches hold as many tokens as ours, counted as ours are: `lengths` takes sentences of like length together, which saves
padding, and is what training in PyTorch usually does; `drawn` takes them as they come, as ours do. `bf16` is PyTorch's own
autocast. Attention is PyTorch's fused kernel, or with `plain` separate products, which suit short sentences. Adam is the
fused one, and only rows that have a label meet the output layer.

Commands: `loss` tells the validation loss; `run SECONDS` trains for so long and tells `seconds` and `tokens`;
`race SECONDS FILE` does so, validates now and then, writes the last weights to FILE and tells `curve`: for each validation
`update`, `seconds`, `tokens` and `loss`. Seconds are those of updates alone, batches included; tokens are
target tokens, end tokens included; a validation loss is -ln p for each of these, in f32 without dropout.
"""

import contextlib
import itertools
import json
import math
import random
import sys
import time

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import protocol
from torch_model import IGNORED, Model, batch, load, save

# Pairs that are sorted together before they are cut into batches, whose order is then random.
POOL = 16384
# Sentences of a validation batch.
VALIDATED = 128


class Pairs:
    def __init__(self, job):
        self.start, self.end = job["start"], job["end"]
        self.most = job["training"]["batch_tokens"]
        with open(job["pairs"]) as file:
            pairs = json.load(file)
        self.train, self.valid = pairs["train"], pairs["valid"]

    def batch(self, pairs):
        sources, targets = zip(*pairs)
        inputs, labels = batch([source + [self.end] for source in sources], [[self.start] + target for target in targets],
                               [target + [self.end] for target in targets])
        return inputs, labels, sum(map(len, targets)) + len(targets)

    def filled(self, pairs):
        """In the order given, as many to a batch as its tokens allow, counted on each pair's longer side."""
        filled, room = [], self.most
        for pair in pairs:
            tokens = max(map(len, pair)) + 1
            if filled and tokens > room:
                yield filled
                filled, room = [], self.most
            filled.append(pair)
            room -= tokens
        yield filled

    def epochs(self, like_lengths):
        """Batches without end."""
        while True:
            pairs = random.sample(self.train, len(self.train))
            if like_lengths:
                pools = (pairs[i:i + POOL] for i in range(0, len(pairs), POOL))
                pairs = [pair for pool in pools for pair in sorted(pool, key=lambda p: (len(p[0]), len(p[1])))]
            batches = list(self.filled(pairs))
            if like_lengths:
                random.shuffle(batches)
            yield from map(self.batch, batches)


class Training:
    def __init__(self, job, like_lengths, bf16):
        self.settings = t = job["training"]
        random.seed(t["seed"])
        torch.manual_seed(t["seed"])
        self.model = Model(job)
        load(self.model, job["weights"])
        self.adam = torch.optim.Adam(self.model.parameters(), betas=(t["beta1"], t["beta2"]), eps=t["eps"], fused=True)
        self.bf16 = bf16
        pairs = Pairs(job)
        batches = pairs.epochs(like_lengths)
        # The first epoch is drawn before the clock starts, as ours is.
        self.batches = itertools.chain([next(batches)], batches)
        valid = sorted(pairs.valid, key=lambda p: len(p[1]))
        self.valid = [pairs.batch(valid[i:i + VALIDATED]) for i in range(0, len(valid), VALIDATED)]
        self.updates, self.seconds, self.tokens = 0, 0.0, 0

    def loss(self, inputs, labels, **options):
        kept = (labels != IGNORED).nonzero().squeeze(1)
        hidden = self.model.hidden(*inputs).flatten(0, 1)[kept]
        return nn.functional.cross_entropy(self.model.logits(hidden).float(), labels[kept], **options)

    def rate(self):
        t, update = self.settings, self.updates + 1
        warmup = max(t["warmup_steps"], 1)
        return t["learning_rate"] * min(update / warmup, math.sqrt(warmup / update))

    def step(self):
        start = time.perf_counter()
        inputs, labels, tokens = next(self.batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.loss(inputs, labels, label_smoothing=self.settings["label_smoothing"])
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip_norm"])
        for group in self.adam.param_groups:
            group["lr"] = self.rate()
        # As ours does: a gradient that is not finite makes no update.
        if norm.isfinite():
            self.adam.step()
        self.updates += 1
        self.tokens += tokens
        self.seconds += time.perf_counter() - start

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        sums = [(self.loss(inputs, labels, reduction="sum").item(), tokens) for inputs, labels, tokens in self.valid]
        self.model.train()
        return sum(loss for loss, _ in sums) / sum(tokens for _, tokens in sums)

    def run(self, seconds):
        start, tokens = self.seconds, self.tokens
        while self.seconds - start < seconds:
            self.step()
        return {"seconds": self.seconds - start, "tokens": self.tokens - tokens}

    def race(self, seconds, path):
        curve = []
        while self.seconds < seconds:
            self.step()
            ended = self.seconds >= seconds
            if ended or self.updates % self.settings["valid_every"] == 0:
                point = {"update": self.updates, "seconds": self.seconds, "tokens": self.tokens, "loss": self.validate()}
                # Nobody may be reading any more.
                with contextlib.suppress(OSError):
                    print("update {update}: loss {loss:.4f}, {seconds:.0f} seconds".format(**point), file=sys.stderr,
                          flush=True)
                curve.append(point)
        save(self.model, path)
        return {"curve": curve}


def main(job, options):
    torch.set_num_threads(job["threads"])
    batches, precision, attention = options
    training = Training(job, {"lengths": True, "drawn": False}[batches], {"float32": False, "bf16": True}[precision])
    kernels = {"fused": [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH], "plain": [SDPBackend.MATH]}[attention]

    def answer(words):
        match words:
            case ["loss"]:
                return {"loss": training.validate()}
            case ["run", seconds]:
                return training.run(float(seconds))
            case ["race", seconds, path]:
                return training.race(float(seconds), path)
        raise ValueError(f"unknown command: {words}")

    # Without it separate products of bf16 are computed in f32.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    with sdpa_kernel(kernels):
        protocol.serve(torch.__version__, answer)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(protocol.job(), sys.argv[2:])
