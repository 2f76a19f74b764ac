"""Vectors of texts, or scores of pairs, with an engine for encoders.

    python embed.py JOB.json ENGINE

ENGINE is ctranslate2, onnxruntime, openvino or sentence-transformers. `model` is a folder made by make_encoder.py. With `head`
the answers are logits, else the normalized mean of the vectors of a text's tokens.
"""

import json
import sys
import time
from pathlib import Path

import numpy

import protocol


def padded(rows):
    array = numpy.zeros((len(rows), max(map(len, rows))), dtype=numpy.int64)
    for to, row in zip(array, rows):
        to[:len(row)] = row
    return array


def normalized_mean(hidden, lengths):
    mask = (numpy.arange(hidden.shape[1]) < numpy.asarray(lengths)[:, None]).astype(numpy.float32)
    means = numpy.einsum("btd,bt->bd", hidden, mask) / numpy.asarray(lengths, dtype=numpy.float32)[:, None]
    return means / numpy.linalg.norm(means, axis=1, keepdims=True)


def of_session(run):
    """An engine that takes padded arrays and gives the model's answer."""
    def answer(ids, segments, head):
        rows = padded(ids)
        lengths = [len(row) for row in ids]
        mask = (numpy.arange(rows.shape[1]) < numpy.asarray(lengths)[:, None]).astype(numpy.int64)
        told = run({"input_ids": rows, "attention_mask": mask, "token_type_ids": padded(segments)})
        return told if head else normalized_mean(told, lengths)
    return answer


def with_onnxruntime(job, folder):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = onnxruntime.InferenceSession(folder / f"onnx-{job['compute_type']}.onnx", options,
                                           providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name
    return onnxruntime.__version__, of_session(lambda inputs: session.run([output], inputs)[0])


def with_openvino(job, folder):
    import openvino
    file = "openvino.xml" if job["compute_type"] == "float32" else "onnx-int8.onnx"
    # f32 is asked for, as it may take less on machines that have it.
    settings = {"INFERENCE_NUM_THREADS": job["threads"], "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(folder / file, "CPU", settings)
    request = model.create_infer_request()
    return openvino.__version__.split("-")[0], of_session(lambda inputs: request.infer(inputs)[model.output(0)])


def with_ctranslate2(job, folder):
    import ctranslate2
    encoder = ctranslate2.Encoder(str(folder / f"ctranslate2-{job['compute_type']}"), device="cpu",
                                  compute_type=job["compute_type"], inter_threads=1, intra_threads=job["threads"])
    head = numpy.load(folder / "head.npz") if job["head"] else None

    def answer(ids, segments, wants_head):
        told = encoder.forward_batch(ids, token_type_ids=segments)
        if wants_head:
            return numpy.array(told.pooler_output) @ head["weight"].T + head["bias"]
        return normalized_mean(numpy.array(told.last_hidden_state), [len(row) for row in ids])
    return ctranslate2.__version__, answer


def with_sentence_transformers(job, folder):
    import sentence_transformers
    import torch
    torch.set_num_threads(job["threads"])
    kind = sentence_transformers.CrossEncoder if job["head"] else sentence_transformers.SentenceTransformer
    model = kind(str(folder), device="cpu").eval()

    def run(inputs):
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.inference_mode():
            if job["head"]:
                return model.model(**tensors).logits.numpy()
            return model(tensors)["sentence_embedding"].numpy()

    def answer(ids, segments, _):
        rows = padded(ids)
        mask = (numpy.arange(rows.shape[1]) < numpy.array([[len(row)] for row in ids])).astype(numpy.int64)
        return run({"input_ids": rows, "attention_mask": mask, "token_type_ids": padded(segments)})
    return sentence_transformers.__version__, answer


def main(job, engine):
    start = {"ctranslate2": with_ctranslate2, "onnxruntime": with_onnxruntime, "openvino": with_openvino,
             "sentence-transformers": with_sentence_transformers}[engine]
    version, answer = start(job, Path(job["model"]))
    texts, segments, size = job["texts"], job["segments"], job["batch"]

    def serve(command):
        start = time.perf_counter()
        parts = [answer(texts[i:i + size], segments[i:i + size], job["head"]) for i in range(0, len(texts), size)]
        vectors = numpy.concatenate(parts)
        seconds = time.perf_counter() - start
        told = {"seconds": seconds, "tokens": sum(map(len, texts))}
        if command == ["outputs"]:
            told["vectors"] = vectors.tolist()
        return told

    protocol.serve(version, serve)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(protocol.job(), sys.argv[2])
