"""What transformers makes of llama2.c's stories260K: 256 tokens behind each of a few beginnings, the likeliest each time.

    python stories.py STORIES.bin OUT

OUT is a JSON file: {"prompts": [[…]], "outputs": [[…]]}.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

PROMPTS = [[1], [1, 403, 407], [1, 260, 270, 300, 350], [1, 511, 17, 64, 99, 203, 402]]
NEW_TOKENS = 256


def read(path):
    data = path.read_bytes()
    d, inner, layers, heads, kv_heads, vocab, positions = struct.unpack("7i", data[:28])
    numbers = np.frombuffer(data, np.float32, offset=28)
    at = 0

    def take(*shape):
        nonlocal at
        count = int(np.prod(shape))
        part = torch.tensor(numbers[at:at + count].reshape(shape).copy())
        at += count
        return part

    kv = d // heads * kv_heads
    embedding = take(vocab, d)
    attention_norm, q, k = take(layers, d), take(layers, d, d), take(layers, kv, d)
    v, o, ffn_norm = take(layers, kv, d), take(layers, d, d), take(layers, d)
    gate, down, up, norm = take(layers, inner, d), take(layers, d, inner), take(layers, inner, d), take(d)
    halves = lambda w, n: w.reshape(n, d // heads // 2, 2, d).transpose(1, 2).reshape(-1, d)
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding, "model.norm.weight": norm}
    for i in range(layers):
        name = f"model.layers.{i}."
        tensors |= {
            name + "input_layernorm.weight": attention_norm[i], name + "post_attention_layernorm.weight": ffn_norm[i],
            name + "self_attn.q_proj.weight": halves(q[i], heads), name + "self_attn.k_proj.weight": halves(k[i], kv_heads),
            name + "self_attn.v_proj.weight": v[i], name + "self_attn.o_proj.weight": o[i],
            name + "mlp.gate_proj.weight": gate[i], name + "mlp.up_proj.weight": up[i], name + "mlp.down_proj.weight": down[i]}
    config = LlamaConfig(vocab_size=vocab, hidden_size=d, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
                         num_key_value_heads=kv_heads, max_position_embeddings=positions, rms_norm_eps=1e-5, tie_word_embeddings=True)
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(tensors)
    return model


def main(path, out):
    torch.set_num_threads(1)
    model = read(path)
    outputs = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        found = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
        outputs.append(found[0, len(prompt):].tolist())
    out.write_text(json.dumps(dict(prompts=PROMPTS, outputs=outputs), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
