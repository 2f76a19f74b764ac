"""Random blocks of each kind that GGUF stores numbers in, and what its own Python package makes of them.

    python gguf_blocks.py OUT

OUT is a JSON file: by kind, the bytes of two blocks and their numbers. Needs the package gguf.
"""

import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Kind, quants


def main(out):
    rng = np.random.default_rng(3)
    found = {}
    for name in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]:
        kind = Kind[name]
        count, size = GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (2, size), dtype=np.uint8)
        # The scales are halves: of ordinary size, so that no number is infinite.
        at = {"Q6_K": [size - 2], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2]}.get(name, [0])
        for row in blocks:
            for i in at:
                row[i:i + 2] = np.frombuffer(np.float16(rng.standard_normal()).tobytes(), np.uint8)
        numbers = quants.dequantize(blocks, kind)
        found[name] = dict(bytes=blocks.flatten().tolist(), numbers=[float(f"{x:.8g}") for x in numbers.flatten()])
    with open(out, "w") as file:
        json.dump(found, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
