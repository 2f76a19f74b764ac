"""One token with CTranslate2, from nothing: what a Python program does that translates one line.

    python startup_ct2.py FOLDER COMPUTE_TYPE WORDS

FOLDER is made by make_model.py. Prints the first word of the translation.
"""

import sys

import ctranslate2

if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, compute_type, words = sys.argv[1:]
    translator = ctranslate2.Translator(f"{folder}/ctranslate2-{compute_type}", device="cpu", compute_type=compute_type,
                                        inter_threads=1, intra_threads=2)
    result = translator.translate_batch([words.split() + ["</s>"]], beam_size=1, min_decoding_length=1, max_decoding_length=1)
    print(*result[0].hypotheses[0], flush=True)
