"""Matrix products with PyTorch, f32 and bf16: a linear layer's, input [m, k] times weight [n, k] transposed.

    python gemm_torch.py JOB.json

The job holds `threads` and `shapes`, a list of [m, n, k].
"""

import sys
import time

import torch

import protocol


def rate(m, n, k, dtype):
    """GFLOP/s, the best of four runs of about a tenth of a second."""
    x, weight = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
    work, best = 2 * m * n * k, 0.0
    repeat = max(3, int(1e10 / work))
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(repeat):
            torch.nn.functional.linear(x, weight)
        best = max(best, work * repeat / (time.perf_counter() - start) / 1e9)
    return best


def main(job):
    torch.set_num_threads(job["threads"])
    torch.set_grad_enabled(False)
    kinds = {"f32": torch.float32, "bf16": torch.bfloat16}

    def answer(command):
        assert command == ["run"], command
        return {"shapes": [[*shape, name, rate(*shape, kind)] for shape in job["shapes"] for name, kind in kinds.items()]}

    protocol.serve(torch.__version__, answer)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(protocol.job())
