"""Going on with prompts, with CTranslate2.

    python generate.py JOB.json

`model` is the folder `smol` of make_generator.py. All prompts are read together; then, with `new_tokens`, so many are decoded of
each, the likeliest every time, and their time alone counts.
"""

import json
import sys
import time
from pathlib import Path

import ctranslate2

import protocol


class CTranslate2:
    def __init__(self, job):
        folder = Path(job["model"])
        vocabulary = json.loads((folder / "tokenizer.json").read_text())
        words = {i: word for word, i in vocabulary["model"]["vocab"].items()}
        words.update({token["id"]: token["content"] for token in vocabulary["added_tokens"]})
        self.generator = ctranslate2.Generator(str(folder / f"ctranslate2-{job['compute_type']}"), device="cpu",
                                               compute_type=job["compute_type"], inter_threads=1,
                                               intra_threads=job["threads"])
        self.words = lambda rows: [[words[i] for i in row] for row in rows]
        self.prompts = self.words(job["prompts"])

    def seconds(self, new_tokens):
        """What so many tokens take, the prompts counted."""
        start = time.perf_counter()
        results = self.generator.generate_batch(self.prompts, max_length=new_tokens, min_length=new_tokens, beam_size=1,
                                                sampling_topk=1, include_prompt_in_result=False)
        seconds = time.perf_counter() - start
        assert all(len(result.sequences_ids[0]) == new_tokens for result in results)
        return seconds

    def read(self):
        return self.seconds(1)

    def decode(self, new_tokens):
        first = min(self.seconds(1), self.seconds(1))
        return self.seconds(new_tokens + 1) - first

    def losses(self, texts):
        scores = self.generator.score_batch(self.words(texts))
        return [-sum(score.log_probs) / len(score.log_probs) for score in scores]


def main(job):
    engine = CTranslate2(job)

    def serve(command):
        if command == ["losses"]:
            return {"losses": engine.losses(job["texts"])}
        streams, new_tokens = len(job["prompts"]), job["new_tokens"]
        if new_tokens:
            return {"seconds": engine.decode(new_tokens), "tokens": streams * new_tokens}
        return {"seconds": engine.read(), "tokens": sum(map(len, job["prompts"]))}

    protocol.serve(ctranslate2.__version__, serve)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(protocol.job())
