"""What PyTorch computes in training: loss, logits, every gradient, and ten steps of Adam; and steps of Muon.

    python training.py OUTDIR

Writes OUTDIR/training_{post,pre}_norm.{safetensors,json}. The model is torch.nn.TransformerEncoder and
torch.nn.TransformerDecoder in float64 (dropout 0), with one embedding table for source, target and output, scaled by
√d_model, sinusoidal positions in halves, and a bias on the output. Initial parameters are exact in f32; results are
rounded to f32.

The safetensors file holds, under our names and in our layout (a linear layer's weight is [in, out]),
    initial.NAME   the parameters before the first step
    gradient.NAME  the gradients of the first step, before clipping
    final.NAME     the parameters after the last step
    logits         [target tokens, vocabulary] of the first step, the sentences' rows end to end
The json file holds
    config         our TransformerConfig
    source, decoder_input, labels   the batch, one row for each sentence, without padding
    label_smoothing, adam, clip_norm
    loss           sum over target tokens / number of target tokens, at the first step; a token's loss is
                   (1 − ε)·nll + ε·(mean over the vocabulary of −log p)
    steps          [{"learning_rate", "loss" (before the update), "gradient_norm" (before clipping)}], the batch being the
                   same in each; gradients are multiplied by min(1, clip_norm / (norm + 1e-6))

OUTDIR/muon.json holds what torch.optim.Muon makes of three matrices, with the iteration in float64 where PyTorch rounds
to bfloat16:
    learning_rate, momentum, weight_decay
    matrices       [{"rows", "columns", "initial", "gradients" (one a step), "final"}], numbers row after row
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

VOCABULARY, WIDTH, HEADS, INNER, LAYERS = 29, 16, 2, 24, 2
PAD, EOS = 0, 1
SMOOTHING, CLIP, PEAK, WARMUP, STEPS = 0.1, 1.0, 0.01, 4, 10
ADAM = dict(betas=(0.9, 0.98), eps=1e-9)


def positions(length):
    angle = torch.arange(length)[:, None] / 10000 ** (torch.arange(WIDTH // 2) * 2 / WIDTH)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Model(nn.Module):
    def __init__(self, pre_norm):
        super().__init__()
        layer = dict(d_model=WIDTH, nhead=HEADS, dim_feedforward=INNER, dropout=0.0, activation="relu",
                     layer_norm_eps=1e-5, batch_first=True, norm_first=pre_norm)
        norm = (lambda: nn.LayerNorm(WIDTH, eps=1e-5)) if pre_norm else (lambda: None)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), LAYERS, norm(),
                                             enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer), LAYERS, norm())
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.output_bias = nn.Parameter(torch.zeros(VOCABULARY))

    def embed(self, ids):
        return self.embedding(ids) * math.sqrt(WIDTH) + positions(ids.shape[1])

    def forward(self, source, source_lengths, target, target_lengths):
        hidden_source = beyond(source, source_lengths)
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1]) < 0
        memory = self.encoder(self.embed(source), src_key_padding_mask=hidden_source)
        hidden = self.decoder(self.embed(target), memory, tgt_mask=causal,
                              tgt_key_padding_mask=beyond(target, target_lengths),
                              memory_key_padding_mask=hidden_source)
        return hidden @ self.embedding.weight.T + self.output_bias


def beyond(ids, lengths):
    """True where a row has ended. Not by the id: the decoder starts with the padding token."""
    return torch.arange(ids.shape[1])[None, :] >= torch.tensor(lengths)[:, None]


def ours(model, of):
    """Our names and layout for `of(parameter)`: the values or the gradients."""
    named = {"embedding.weight": of(model.embedding.weight), "output.bias": of(model.output_bias)}

    def linear(name, weight, bias):
        named[f"{name}.weight"], named[f"{name}.bias"] = weight.T, bias

    def attention(name, module):
        parts = zip("query key value".split(), of(module.in_proj_weight).chunk(3), of(module.in_proj_bias).chunk(3))
        for part, weight, bias in parts:
            linear(f"{name}.{part}", weight, bias)
        linear(f"{name}.output", of(module.out_proj.weight), of(module.out_proj.bias))

    def norm(name, module):
        named[f"{name}.weight"], named[f"{name}.bias"] = of(module.weight), of(module.bias)

    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        for i, layer in enumerate(stack.layers):
            name = f"{side}.layers.{i}"
            attention(f"{name}.self_attention", layer.self_attn)
            norm(f"{name}.self_attention_norm", layer.norm1)
            last = layer.norm2
            if side == "decoder":
                attention(f"{name}.cross_attention", layer.multihead_attn)
                norm(f"{name}.cross_attention_norm", layer.norm2)
                last = layer.norm3
            linear(f"{name}.feed_forward.inner", of(layer.linear1.weight), of(layer.linear1.bias))
            linear(f"{name}.feed_forward.outer", of(layer.linear2.weight), of(layer.linear2.bias))
            norm(f"{name}.feed_forward_norm", last)
        if stack.norm is not None:
            norm(f"{side}.norm", stack.norm)
    assert sum(v.numel() for v in named.values()) == sum(p.numel() for p in model.parameters())
    return {name: value.detach().clone() for name, value in named.items()}


def config(pre_norm):
    return dict(
        source_vocab_size=VOCABULARY, target_vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=LAYERS,
        decoder_layers=LAYERS, encoder_heads=HEADS, decoder_heads=HEADS, encoder_feed_forward=INNER,
        decoder_feed_forward=INNER, activation="relu", norm="pre" if pre_norm else "post", final_norm=pre_norm,
        layer_norm_eps=1e-5, positions="sinusoidal_halves", position_offset=0, max_position_embeddings=32,
        scale_embedding=True, share_embeddings=True, tie_output=True, output_bias=True, dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
        forced_bos_token_id=None)


def randomize(model):
    """Nothing is zero or one, so that no gradient hides; values exact in f32."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            value = torch.randn_like(p) * (0.3 if "embedding" in name else 0.1 if p.dim() == 1 else 1 / p.shape[1] ** 0.5)
            if "norm" in name and name.endswith("weight"):
                value += 1
            p.copy_(value.float().double())


def batch():
    words = lambda n: torch.randint(2, VOCABULARY, (n,)).tolist()
    source = [words(n) + [EOS] for n in (6, 1, 3, 8, 4)]
    target = [words(n) for n in (4, 2, 7, 5, 0)]
    return source, [[PAD] + t for t in target], [t + [EOS] for t in target]


def padded(rows, fill):
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows]), list(map(len, rows))


def run(pre_norm, out):
    torch.manual_seed(7)
    model = Model(pre_norm).train()
    randomize(model)
    source, decoder_input, labels = batch()
    inputs = (*padded(source, PAD), *padded(decoder_input, PAD))
    wanted, lengths = padded(labels, -100)
    tensors = {f"initial.{name}": value for name, value in ours(model, lambda p: p).items()}
    adam = torch.optim.Adam(model.parameters(), lr=0.0, **ADAM)
    steps = []
    for step in range(1, STEPS + 1):
        logits = model(*inputs)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), label_smoothing=SMOOTHING,
                                           ignore_index=-100, reduction="sum") / sum(lengths)
        adam.zero_grad()
        loss.backward()
        if step == 1:
            tensors.update({f"gradient.{name}": value for name, value in ours(model, lambda p: p.grad).items()})
            tensors["logits"] = torch.cat([logits[i, :n] for i, n in enumerate(lengths)]).detach()
        norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        rate = PEAK * min(step / WARMUP, math.sqrt(WARMUP / step))
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
        steps.append(dict(learning_rate=rate, loss=loss.item(), gradient_norm=norm.item()))
    tensors.update({f"final.{name}": value for name, value in ours(model, lambda p: p).items()})
    name = f"training_{'pre' if pre_norm else 'post'}_norm"
    save_file({k: v.float().contiguous() for k, v in tensors.items()}, out / f"{name}.safetensors")
    (out / f"{name}.safetensors").chmod(0o644)
    golden = dict(config=config(pre_norm), source=source, decoder_input=decoder_input, labels=labels,
                  label_smoothing=SMOOTHING, adam=dict(beta1=ADAM["betas"][0], beta2=ADAM["betas"][1], eps=ADAM["eps"]),
                  clip_norm=CLIP, loss=steps[0]["loss"], steps=steps)
    (out / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
    print(name, " ".join(f"{s['loss']:.4f}" for s in steps), "norms", " ".join(f"{s['gradient_norm']:.2f}" for s in steps))


def muon(out):
    torch.manual_seed(8)
    settings = dict(lr=0.02, momentum=0.95, weight_decay=0.1)
    bfloat16 = torch.bfloat16
    torch.bfloat16 = torch.float64
    matrices = []
    for rows, columns in ((6, 6), (4, 9), (9, 4)):
        thousandths = lambda: (torch.randn(rows, columns) * 1000).round() / 1000
        matrix = nn.Parameter(thousandths())
        initial = matrix.detach().clone()
        gradients = [thousandths() for _ in range(STEPS // 2)]
        optimizer = torch.optim.Muon([matrix], adjust_lr_fn="match_rms_adamw", **settings)
        for gradient in gradients:
            matrix.grad = gradient
            optimizer.step()
        flat = lambda t: t.flatten().tolist()
        matrices.append(dict(rows=rows, columns=columns, initial=flat(initial), gradients=[flat(g) for g in gradients],
                             final=flat(matrix.detach())))
    torch.bfloat16 = bfloat16
    golden = dict(learning_rate=settings.pop("lr"), **settings, matrices=matrices)
    (out / "muon.json").write_text(json.dumps(golden) + "\n")


def main(out):
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    out.mkdir(parents=True, exist_ok=True)
    for pre_norm in (False, True):
        run(pre_norm, out)
    muon(out)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
