"""The vector of one text with CTranslate2, from nothing: what a Python program does that embeds one line.

    python startup_embed_ct2.py FOLDER COMPUTE_TYPE TEXT

FOLDER is `embed` of make_encoder.py. Prints the vector, the normalized mean of those of its tokens, as JSON.
"""

import json
import sys

import ctranslate2
import numpy
import tokenizers

if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, compute_type, text = sys.argv[1:]
    tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    encoder = ctranslate2.Encoder(f"{folder}/ctranslate2-{compute_type}", device="cpu", compute_type=compute_type,
                                  inter_threads=1, intra_threads=2)
    encoding = tokenizer.encode(text)
    told = encoder.forward_batch([encoding.ids], token_type_ids=[encoding.type_ids])
    mean = numpy.array(told.last_hidden_state)[0].mean(axis=0)
    print(json.dumps((mean / numpy.linalg.norm(mean)).tolist()), flush=True)
