"""Training steps with PyTorch.

    python train_torch.py JOB.json [compile] [fused]

`compile` puts the forward pass and the loss through torch.compile, `fused` takes the fused Adam. Precision `bf16` is
PyTorch's own autocast. Batches are padded to their longest sentence, and made into tensors before the clock starts.
"""

import json
import math
import sys
import time

import torch
from safetensors.torch import load_file
from torch import nn

import protocol

IGNORED = -100


class Model(nn.Module):
    def __init__(self, job):
        super().__init__()
        width = job["d_model"]
        layer = dict(d_model=width, nhead=job["heads"], dim_feedforward=job["feed_forward"], dropout=job["dropout"],
                     activation="relu", layer_norm_eps=1e-5, batch_first=True)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), job["layers"],
                                             enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer), job["layers"])
        self.embedding = nn.Embedding(job["vocabulary"], width)
        self.output_bias = nn.Parameter(torch.zeros(job["vocabulary"]))
        self.dropout = nn.Dropout(job["dropout"])
        angle = torch.arange(1024)[:, None] / 10000 ** (torch.arange(width // 2) * 2 / width)
        self.register_buffer("positions", torch.cat([angle.sin(), angle.cos()], dim=1))

    def embed(self, ids):
        x = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(x + self.positions[: ids.shape[1]])

    def forward(self, source, decoder_input, causal, ended):
        """`ended` is true where a source sentence has ended; None where all have one length."""
        memory = self.encoder(self.embed(source), src_key_padding_mask=ended)
        # What follows a target sentence's end is hidden from it by the causal mask.
        hidden = self.decoder(self.embed(decoder_input), memory, tgt_mask=causal, tgt_is_causal=True,
                              memory_key_padding_mask=ended)
        return nn.functional.linear(hidden, self.embedding.weight, self.output_bias)


def load(model, path):
    """Copies the initial weights in; ours are [in, out], PyTorch's [out, in]."""
    tensors = load_file(path)

    def linear(module, name):
        module.weight.copy_(tensors.pop(f"{name}.weight").T)
        module.bias.copy_(tensors.pop(f"{name}.bias"))

    def attention(module, name):
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        module.in_proj_weight.copy_(torch.cat([tensors.pop(f"{part}.weight").T for part in parts]))
        module.in_proj_bias.copy_(torch.cat([tensors.pop(f"{part}.bias") for part in parts]))
        linear(module.out_proj, f"{name}.output")

    def norm(module, name):
        module.weight.copy_(tensors.pop(f"{name}.weight"))
        module.bias.copy_(tensors.pop(f"{name}.bias"))

    with torch.no_grad():
        model.embedding.weight.copy_(tensors.pop("embedding.weight"))
        model.output_bias.copy_(tensors.pop("output.bias"))
        for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
            for i, layer in enumerate(stack.layers):
                name = f"{side}.layers.{i}"
                attention(layer.self_attn, f"{name}.self_attention")
                norm(layer.norm1, f"{name}.self_attention_norm")
                last = layer.norm2
                if side == "decoder":
                    attention(layer.multihead_attn, f"{name}.cross_attention")
                    norm(layer.norm2, f"{name}.cross_attention_norm")
                    last = layer.norm3
                linear(layer.linear1, f"{name}.feed_forward.inner")
                linear(layer.linear2, f"{name}.feed_forward.outer")
                norm(last, f"{name}.feed_forward_norm")
    assert not tensors, f"weights without a place: {sorted(tensors)}"


def padded(rows, fill):
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


def batch(sentences):
    source, labels = padded(sentences["source"], 0), padded(sentences["labels"], IGNORED)
    lengths = torch.tensor([len(row) for row in sentences["source"]])
    ended = torch.arange(source.shape[1])[None, :] >= lengths[:, None]
    causal = nn.Transformer.generate_square_subsequent_mask(labels.shape[1])
    inputs = source, padded(sentences["decoder_input"], 0), causal, ended if ended.any() else None
    return inputs, labels.flatten(), sum(map(len, sentences["labels"]))


def main(job, options):
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    model = Model(job).train()
    load(model, job["weights"])
    adam = torch.optim.Adam(model.parameters(), lr=job["learning_rate"], betas=(0.9, 0.98), eps=1e-9,
                            fused="fused" in options)
    bf16 = {"float32": False, "bf16": True}[job["precision"]]
    with open(job["batches"]) as file:
        batches = [batch(sentences) for sentences in json.load(file)]
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
