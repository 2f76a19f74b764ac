"""Decoding with CTranslate2.

    python translate_ct2.py JOB.json WORKERSxTHREADS

`model` is a folder made by make_model.py. Sources hold the end token; none is produced (the shortest output is the longest).
"""

import json
import sys
import time
from pathlib import Path

import ctranslate2

import protocol


def main(job, layout):
    workers, threads = map(int, layout.split("x"))
    folder = Path(job["model"])
    ids = json.loads((folder / "vocab.json").read_text())
    words = {i: word for word, i in ids.items()}
    translator = ctranslate2.Translator(str(folder / f"ctranslate2-{job['compute_type']}"), device="cpu",
                                        compute_type=job["compute_type"], inter_threads=workers, intra_threads=threads)
    sources = [[words[i] for i in source] for source in job["sources"]]

    def answer(command):
        start = time.perf_counter()
        results = translator.translate_batch(sources, beam_size=job["beam"], max_batch_size=job["batch"],
                                             min_decoding_length=job["tokens"], max_decoding_length=job["tokens"])
        outputs = [result.hypotheses[0] for result in results]
        seconds = time.perf_counter() - start
        told = {"seconds": seconds, "tokens": sum(map(len, outputs))}
        if command == ["outputs"]:
            told["outputs"] = [[ids[word] for word in output] for output in outputs]
        return told

    protocol.serve(ctranslate2.__version__, answer)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(protocol.job(), sys.argv[2])
