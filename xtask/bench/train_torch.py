"""Training steps with PyTorch.

    python train_torch.py JOB.json [compile] [fused]

`compile` puts the forward pass and the loss through torch.compile, `fused` takes the fused Adam. Precision `bf16` is
PyTorch's own autocast. Batches are padded to their longest sentence, and made into tensors before the clock starts.
"""

import json
import sys
import time

import torch
from torch import nn

import protocol
from torch_model import IGNORED, Gpt, Model, batch, load


def main(job, options):
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    model = (Gpt if job.get("decoder_alone") else Model)(job).train()
    load(model, job["weights"])
    adam = torch.optim.Adam(model.parameters(), lr=job["learning_rate"], betas=(0.9, 0.98), eps=1e-9,
                            fused="fused" in options)
    bf16 = {"float32": False, "bf16": True}[job["precision"]]
    # Attention with dropout is separate products here, which without this would be computed in f32.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(bf16)
    with open(job["batches"]) as file:
        batches = [(*batch(**sentences), sum(map(len, sentences["labels"]))) for sentences in json.load(file)]
    done = 0

    def loss_of(inputs, labels):
        logits = model(*inputs).flatten(0, 1)
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=job["label_smoothing"],
                                           ignore_index=IGNORED)

    if "compile" in options:
        loss_of = torch.compile(loss_of)

    def step():
        nonlocal done
        inputs, labels, tokens = batches[done % len(batches)]
        done += 1
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = loss_of(inputs, labels)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return loss.item(), tokens

    def answer(words):
        assert words[0] == "run", words
        start = time.perf_counter()
        steps = [step() for _ in range(int(words[1]))]
        seconds = time.perf_counter() - start
        parameters = list(model.parameters())
        reached = sum(p.grad is not None and bool(p.grad.any()) for p in parameters)
        return {"seconds": seconds, "tokens": sum(t for _, t in steps), "losses": [loss for loss, _ in steps],
                "gradients": reached, "parameters": len(parameters)}

    protocol.serve(torch.__version__, answer)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(protocol.job(), sys.argv[2:])
