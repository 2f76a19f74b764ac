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
    """Rows of ids as `Model.hidden` takes them, and flat labels; what fills up shorter rows is hidden and ignored."""
    lengths = torch.tensor([len(row) for row in source])
    source, labels = padded(source, 0), padded(labels, IGNORED)
    ended = torch.arange(source.shape[1])[None, :] >= lengths[:, None]
    causal = nn.Transformer.generate_square_subsequent_mask(labels.shape[1])
    return (source, padded(decoder_input, 0), causal, ended if ended.any() else None), labels.flatten()


def padded(rows, fill):
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])
