"""What transformers computes with a model folder: opened with its Auto classes, nothing told about the family.

    python roundtrip.py FOLDER INPUT.json

INPUT.json holds {"input_ids": [[…]], "decoder_input_ids": [[…]]}, ragged rows without padding. Prints
{"logits": [[[…]]], "sequences": [[…]], "scores": […]}: the logits of each row, and what `generate` gives for it with the
folder's own defaults (scores are null where that is greedy search). Fails where a tensor of the model is missing from
the folder or one of the folder is unknown to the model.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM
from transformers.utils import logging


def main(folder, request):
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, info = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    # Nothing tells a bias of zero from none, and position tables are computed.
    missing = {key for key in info["missing_keys"] if key != "final_logits_bias" and "embed_positions" not in key}
    if missing or info["unexpected_keys"] or info["mismatched_keys"]:
        sys.exit(f"the folder does not fit: {info}")
    model.eval()
    logits, sequences, scores = [], [], []
    with torch.no_grad():
        for source, target in zip(request["input_ids"], request["decoder_input_ids"], strict=True):
            # Row by row, with a mask of its own: no padding, whatever tokens the row holds.
            ids, decoder_ids = torch.tensor([source]), torch.tensor([target])
            logits.append(model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=decoder_ids).logits[0].tolist())
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict_in_generate=True,
                                 output_scores=True)
            sequences.append(out.sequences[0].tolist())
            score = getattr(out, "sequences_scores", None)
            scores.append(None if score is None else score[0].item())
    json.dump({"logits": logits, "sequences": sequences, "scores": scores}, sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
