"""Programs that people have, unchanged, against a server that runs: `clients.py NAME URL`."""

import sys
import threading


def openai_(url):
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="-")
    assert {"demo", "small", "minilm"} <= {model.id for model in client.models.list()}
    asked = dict(model="small", messages=[{"role": "user", "content": "w9"}], temperature=0, max_tokens=9)
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    text = whole.choices[0].message.content
    assert whole.usage.completion_tokens == len(whole.choices[0].logprobs.content)
    parts, usage = "", None
    for part in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        parts += part.choices[0].delta.content or "" if part.choices else ""
        usage = part.usage or usage
    assert parts == text and usage == whole.usage, (parts, text)
    with client.chat.completions.with_streaming_response.create(**asked) as response:
        assert response.parse().choices[0].message.content == text
    several = client.completions.create(model="small", prompt=["w9", "w10"], n=2, seed=3, max_tokens=5)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    packed = client.embeddings.create(model="minilm", input=["a man eats", "rain"])
    floats = client.embeddings.create(model="minilm", input=["a man eats", "rain"], encoding_format="float")
    import numpy

    for a, b in zip(packed.data, floats.data):
        assert numpy.array_equal(numpy.float32(a.embedding), numpy.float32(b.embedding))
    own = {"hexapla": {"from": "de", "to": "en"}}
    translated = client.completions.create(model="demo", prompt="Guten Morgen.", extra_body=own)
    assert "orning" in translated.choices[0].text
    for kind, asked in [
        (openai.BadRequestError, dict(model="small", prompt="w9", temperature=9)),
        (openai.NotFoundError, dict(model="large", prompt="w9")),
    ]:
        try:
            client.completions.create(**asked)
            raise AssertionError(asked)
        except kind as error:
            assert error.param and error.request_id and error.body["message"], error
    # Many at a time, each its own.
    alone = [client.completions.create(model="small", prompt=f"w{i}", seed=i, max_tokens=6).choices[0].text for i in range(3, 19)]
    found = {}

    def one(i):
        found[i] = client.completions.create(model="small", prompt=f"w{i}", seed=i, max_tokens=6).choices[0].text

    threads = [threading.Thread(target=one, args=(i,)) for i in range(3, 19)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [found[i] for i in range(3, 19)] == alone


def libretranslate(url):
    from libretranslatepy import LibreTranslateAPI

    client = LibreTranslateAPI(f"{url}/")
    assert "orning" in client.translate("Guten Morgen.", "de", "en")
    assert client.detect("Guten Morgen, wie geht es dir?")[0]["language"] == "de"
    assert {"code": "de", "name": "German", "targets": ["en"]} in client.languages()
    from deep_translator import LibreTranslator

    other = LibreTranslator(source="de", target="en", api_key="-", use_free_api=False, custom_url=f"{url}/")
    assert other.translate("Guten Morgen.") == client.translate("Guten Morgen.", "de", "en")


def deepl_(url):
    import subprocess

    import deepl

    client = deepl.Translator("-", server_url=url)
    found = client.translate_text(["Guten Morgen.", "我爱你。"], target_lang="EN-US")
    assert [text.detected_source_lang for text in found] == ["DE", "ZH"], found
    assert found[0].billed_characters == 13
    page = client.translate_text("<p>Guten <b>Morgen</b>.</p>", source_lang="DE", target_lang="EN-GB", tag_handling="html")
    assert page.text.startswith("<p>") and page.text.count("<b>") == 1, page
    assert {language.code for language in client.get_target_languages()} == {"DE", "EN-US", "ZH-HANS"}
    assert not client.get_usage().any_limit_reached
    try:
        client.translate_text("x", target_lang="FR")
        raise AssertionError("French")
    except deepl.DeepLException as error:
        assert "fr" in str(error)
    command = [sys.executable, "-m", "deepl", "--auth-key", "-", "--server-url", url]
    said = subprocess.run([*command, "text", "--to", "EN-US", "Guten Morgen."], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == found[0].text, said


def huggingface(url):
    import numpy
    from huggingface_hub import InferenceClient

    client = InferenceClient(url)
    vector = client.feature_extraction("a man eats")
    assert numpy.shape(vector)[-1] == 384
    alike = client.sentence_similarity("a man eats", other_sentences=["someone has dinner", "rain"])
    assert alike[0] > alike[1]
    chat = InferenceClient(base_url=f"{url}/v1", api_key="-")
    said = chat.chat_completion([{"role": "user", "content": "w9"}], model="small", max_tokens=5)
    assert said.usage.completion_tokens <= 5


def langchain(url):
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    chat = ChatOpenAI(model="small", base_url=f"{url}/v1", api_key="-", temperature=0, max_tokens=6)
    whole = chat.invoke("w9").content
    assert "".join(part.content for part in chat.stream("w9")) == whole
    texts = OpenAIEmbeddings(model="minilm", base_url=f"{url}/v1", api_key="-", check_embedding_ctx_length=False)
    assert len(texts.embed_documents(["a", "b"])) == 2
    ids = OpenAIEmbeddings(model="minilm", base_url=f"{url}/v1", api_key="-")
    ids.tiktoken_enabled = False
    try:
        # With ids of another tokenizer it must not get vectors of other words.
        texts.client.create(model="minilm", input=[[1, 2, 3]])
        raise AssertionError("ids")
    except Exception as error:
        assert "check_embedding_ctx_length" in str(error), error


def llama_index(url):
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
    from llama_index.llms.openai_like import OpenAILike

    vectors = TextEmbeddingsInference(model_name="minilm", base_url=url)
    assert len(vectors.get_text_embedding_batch(["a man eats", "rain"])) == 2
    model = OpenAILike(model="small", api_base=f"{url}/v1", api_key="-", is_chat_model=True, max_tokens=5, temperature=0)
    assert model.complete("w9").text
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in ["the dog", "rain", "the man eats"]]
    ranked = TextEmbeddingInference(base_url=url, top_n=2, model_name="ranks").postprocess_nodes(nodes, query_str="the man")
    assert len(ranked) == 2 and ranked[0].score >= ranked[1].score


if __name__ == "__main__":
    name, url = sys.argv[1:]
    {
        "openai": openai_,
        "libretranslate": libretranslate,
        "deepl": deepl_,
        "huggingface": huggingface,
        "langchain": langchain,
        "llama_index": llama_index,
    }[name](url)
    print("ok")
