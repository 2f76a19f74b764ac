"""Decoding with transformers' `generate`, in float32.

    python translate_transformers.py JOB.json

Sources hold the end token; none is produced (the shortest output is the longest).
"""

import sys
import time

import torch
import transformers
from transformers import MarianMTModel
from transformers.utils import logging

import protocol


def main(job):
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    assert job["compute_type"] == "float32", "only float32"
    torch.set_num_threads(job["threads"])
    model = MarianMTModel.from_pretrained(job["model"]).eval()

    def generate(sources):
        width = max(map(len, sources))
        padding = [[0] * (width - len(source)) for source in sources]
        ids = torch.tensor([source + pad for source, pad in zip(sources, padding)])
        mask = torch.tensor([[1] * len(source) + pad for source, pad in zip(sources, padding)])
        out = model.generate(input_ids=ids, attention_mask=mask, num_beams=job["beam"], do_sample=False,
                             min_new_tokens=job["tokens"], max_new_tokens=job["tokens"])
        return out[:, 1:].tolist()  # without the start token

    def answer(command):
        outputs, sources, size = [], job["sources"], job["batch"]
        start = time.perf_counter()
        with torch.inference_mode():
            for i in range(0, len(sources), size):
                outputs += generate(sources[i:i + size])
        told = {"seconds": time.perf_counter() - start, "tokens": sum(map(len, outputs))}
        if command == ["outputs"]:
            told["outputs"] = outputs
        return told

    protocol.serve(transformers.__version__, answer)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(protocol.job())
