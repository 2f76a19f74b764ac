"""The paper's model in PyTorch, and our names of its weights.

A job says `d_model`, `heads`, `feed_forward`, `layers`, `vocabulary` and `dropout`; `attention_dropout` and
`activation_dropout` are `dropout` where it does not say them.
"""

import math

import torch
from safetensors.torch import load_file, save_file
from torch import nn

# A label that no loss counts.
IGNORED = -100


class Model(nn.Module):
    def __init__(self, job):
        super().__init__()
        width, dropout = job["d_model"], job["dropout"]
        layer = dict(d_model=width, nhead=job["heads"], dim_feedforward=job["feed_forward"], dropout=dropout,
                     activation="relu", layer_norm_eps=1e-5, batch_first=True)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), job["layers"],
                                             enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer), job["layers"])
        for part in self.modules():
            if isinstance(part, nn.MultiheadAttention):
                part.dropout = job.get("attention_dropout", dropout)
            if isinstance(part, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
                part.dropout.p = job.get("activation_dropout", dropout)
        self.embedding = nn.Embedding(job["vocabulary"], width)
        self.output_bias = nn.Parameter(torch.zeros(job["vocabulary"]))
        self.dropout = nn.Dropout(dropout)
        angle = torch.arange(1024)[:, None] / 10000 ** (torch.arange(width // 2) * 2 / width)
        self.register_buffer("positions", torch.cat([angle.sin(), angle.cos()], dim=1))

    def embed(self, ids):
        x = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(x + self.positions[: ids.shape[1]])

    def hidden(self, source, decoder_input, causal, ended):
        """The decoder's output. `ended` is true where a source sentence has ended; None where all have one length."""
        memory = self.encoder(self.embed(source), src_key_padding_mask=ended)
        # What follows a target sentence's end is hidden from it by the causal mask.
        return self.decoder(self.embed(decoder_input), memory, tgt_mask=causal, tgt_is_causal=True,
                            memory_key_padding_mask=ended)

    def logits(self, hidden):
        return nn.functional.linear(hidden, self.embedding.weight, self.output_bias)

    def forward(self, *inputs):
        return self.logits(self.hidden(*inputs))


class Gpt(nn.Module):
    """A decoder alone, as GPT-2: pre-norm, a table of positions, biases, a tied output layer."""

    def __init__(self, job):
        super().__init__()
        width, self.heads, self.p = job["d_model"], job["heads"], job["dropout"]
        self.embedding = nn.Embedding(job["vocabulary"], width)
        self.positions = nn.Embedding(1024, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "norm1": nn.LayerNorm(width), "attention": nn.Linear(width, 3 * width), "projection": nn.Linear(width, width),
                "norm2": nn.LayerNorm(width), "inner": nn.Linear(width, job["feed_forward"]),
                "outer": nn.Linear(job["feed_forward"], width),
            }) for _ in range(job["layers"]))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(self.p)

    def forward(self, ids):
        x = self.dropout(self.embedding(ids) + self.positions.weight[: ids.shape[1]])
        rows, length, width = x.shape
        for layer in self.layers:
            heads = layer["attention"](layer["norm1"](x)).split(width, dim=2)
            heads = [part.view(rows, length, self.heads, -1).transpose(1, 2) for part in heads]
            seen = nn.functional.scaled_dot_product_attention(*heads, dropout_p=self.p if self.training else 0.0, is_causal=True)
            x = x + self.dropout(layer["projection"](seen.transpose(1, 2).reshape(rows, length, width)))
            inner = nn.functional.gelu(layer["inner"](layer["norm2"](x)), approximate="tanh")
            x = x + self.dropout(layer["outer"](inner))
        return nn.functional.linear(self.norm(x), self.embedding.weight)

    def places(self, whole):
        yield "embedding.weight", self.embedding.weight, False
        yield "target_positions.weight", self.positions.weight, False
        for i, layer in enumerate(self.layers):
            name = f"decoder.layers.{i}"
            width = layer["projection"].in_features
            for j, part in enumerate(("query", "key", "value")):
                rows = slice(j * width, (j + 1) * width)
                yield f"{name}.self_attention.{part}.weight", layer["attention"].weight[rows], True
                yield f"{name}.self_attention.{part}.bias", layer["attention"].bias[rows], False
            yield from whole(layer["projection"], f"{name}.self_attention.output", True)
            yield from whole(layer["norm1"], f"{name}.self_attention_norm", False)
            yield from whole(layer["inner"], f"{name}.feed_forward.inner", True)
            yield from whole(layer["outer"], f"{name}.feed_forward.outer", True)
            yield from whole(layer["norm2"], f"{name}.feed_forward_norm", False)
        yield from whole(self.norm, "decoder.norm", False)


def places(model):
    """Our name of each weight, where it lies here, and whether transposed: ours are [in, out], PyTorch's [out, in]."""

    def whole(part, name, transposed):
        yield f"{name}.weight", part.weight, transposed
        yield f"{name}.bias", part.bias, False

    def attention(heads, name):
        width = heads.embed_dim
        for i, part in enumerate(("query", "key", "value")):
            rows = slice(i * width, (i + 1) * width)
            yield f"{name}.{part}.weight", heads.in_proj_weight[rows], True
            yield f"{name}.{part}.bias", heads.in_proj_bias[rows], False
        yield from whole(heads.out_proj, f"{name}.output", True)

    if isinstance(model, Gpt):
        yield from model.places(whole)
        return
    yield "embedding.weight", model.embedding.weight, False
    yield "output.bias", model.output_bias, False
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        for i, layer in enumerate(stack.layers):
            name = f"{side}.layers.{i}"
            yield from attention(layer.self_attn, f"{name}.self_attention")
            yield from whole(layer.norm1, f"{name}.self_attention_norm", False)
            last = layer.norm2
            if side == "decoder":
                yield from attention(layer.multihead_attn, f"{name}.cross_attention")
                yield from whole(layer.norm2, f"{name}.cross_attention_norm", False)
                last = layer.norm3
            yield from whole(layer.linear1, f"{name}.feed_forward.inner", True)
            yield from whole(layer.linear2, f"{name}.feed_forward.outer", True)
            yield from whole(last, f"{name}.feed_forward_norm", False)


@torch.no_grad()
def load(model, path):
    """Copies weights in that lie under our names in `path`."""
    tensors = load_file(path)
    for name, place, transposed in places(model):
        tensor = tensors.pop(name)
        place.copy_(tensor.T if transposed else tensor)
    assert not tensors, f"weights without a place: {sorted(tensors)}"


@torch.no_grad()
def save(model, path):
    """Writes the weights to `path` under our names."""
    # Copies, for parts of one tensor share its memory, which the format refuses.
    copy = lambda tensor: tensor.clone(memory_format=torch.contiguous_format)
    save_file({name: copy(place.T if transposed else place) for name, place, transposed in places(model)}, path)


def batch(source, decoder_input, labels):
    """Rows of ids as `Model.hidden` takes them, or `Gpt` where no row has a source, and flat labels; what fills up shorter rows is
    hidden and ignored."""
    if not any(source):
        return (torch.tensor(decoder_input),), torch.tensor(labels).flatten()
    lengths = torch.tensor([len(row) for row in source])
    source, labels = padded(source, 0), padded(labels, IGNORED)
    ended = torch.arange(source.shape[1])[None, :] >= lengths[:, None]
    causal = nn.Transformer.generate_square_subsequent_mask(labels.shape[1])
    return (source, padded(decoder_input, 0), causal, ended if ended.any() else None), labels.flatten()


def padded(rows, fill):
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])
