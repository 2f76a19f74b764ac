"""Reference values of BLEU and chrF, computed by sacreBLEU.

    python metrics.py > ../../crates/hexapla/tests/golden/metrics.json
    python metrics.py - < requests.json

The first form scores the sentences below under every setting. The second scores what it reads: a JSON array of
{"metric": "bleu" | "chrf", "settings": {...}, "hypotheses": [...], "references": [[...], ...]}; each gives
{"score", "line", "signature"}. Settings are the arguments of sacrebleu's own classes. Needs `pip install sacrebleu==2.6.0`.
"""

import itertools
import json
import sys

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.version import __version__

# name: rows of hypothesis, reference, further references; the same number of references in every row.
CORPORA = {
    "english": [
        ("The ferry leaves the harbour at seven.", "The ferry departs from the harbour at seven."),
        ("She has forgotten her umbrella on the train again.", "She left her umbrella on the train again."),
        ("Nobody knew why the bell rang.", "No one knew why the bell was ringing."),
        ("A small boat with red sails crossed the bay.", "A small boat with red sails was crossing the bay."),
        ("they painted the fence Green", "They painted the fence green."),
        ("It isn't what we'd hoped for, is it?", "It is not what we had hoped for, is it?"),
        ("the the the the the the the", "The cat is on the mat."),
        ("Two dogs run", "Two dogs are running across the wet sand near the old lighthouse."),
        (
            "The committee will, in all probability, approve the budget before the summer recess begins.",
            "The committee will in all likelihood approve the budget before the summer recess.",
        ),
    ],
    "german": [
        ("Der Zug fährt um 8.30 Uhr von Gleis 3 ab.", "Der Zug fährt um 8:30 Uhr ab Gleis 3."),
        ("Ich hätte gerne einen Kaffee mit Milch.", "Ich möchte bitte einen Kaffee mit Milch."),
        ("Die Straße ist wegen Bauarbeiten gesperrt", "Die Strasse ist wegen Bauarbeiten gesperrt."),
        ("„Wir kommen später“, sagte er.", "»Wir kommen später«, sagte er."),
        ("Das kostet 1.234,50 € inkl. MwSt.", "Es kostet 1234,50 Euro inkl. MwSt."),
        ("Zwei Kinder spielen im Schnee.", "Zwei Kinder spielen draußen im Schnee."),
        ("ÄPFEL UND ÖL", "Äpfel und Öl"),
        ("Donaudampfschifffahrtskapitän", "Donaudampfschifffahrtsgesellschaftskapitän"),
    ],
    "chinese": [
        ("我们明天早上去北京。", "我们明天上午去北京。"),
        ("这本书很有意思,我看了三遍。", "这本书非常有意思,我读了三遍。"),
        ("他说:“今天真冷!”", "他说:「今天好冷!」"),
        ("价格是3.5元——不贵。", "价格为3.50元,不算贵。"),
        ("图书馆在学校的东边", "图书馆位于学校东侧"),
        ("ABC公司2024年的收入增长了12%。", "2024年,ABC公司收入增长12%。"),
        ("好", "好的"),
        ("𠮷野家的牛肉饭……好吃吗?", "𠮷野家的牛肉饭…好吃吗?"),
        ("ABC123~", "ABC123~"),
    ],
    "mixed": [
        ("请打开 file.txt, 然后按 Ctrl-C。", "请打开 file.txt ,然后按 Ctrl+C 。"),
        ("Der Film \"花样年华\" läuft um 20 Uhr.", "Der Film „花样年华“ beginnt um 20 Uhr."),
        ("GPU 的价格≈¥9,999", "GPU 价格约为 ¥9999"),
        ("naïve café — déjà vu", "naive cafe - deja vu"),
        ("東京タワーは333メートルです。", "東京タワーの高さは333mです。"),
        ("Привет, мир!", "Здравствуй, мир!"),
        ("ΟΔΥΣΣΕΥΣ ΟΔΟΣ", "Οδυσσεύς οδός"),
        ("İstanbul'da hava güzel", "istanbul'da hava güzeldi"),
        ("I ❤️ Rust 🦀!", "I ♥ Rust 🦀🦀!"),
    ],
    "punctuation": [
        ("Wait... what?! (Really?)", "Wait … what ? ! ( Really ? )"),
        ("well-known, state-of-the-art", "well known, state of the art"),
        ("e.g. U.S.A., i.e. Mr. X", "e.g., the U.S.A., i.e., Mr X"),
        ("a/b + c*d = {e} [f] <g> ~h^i_j|k\\l", "a / b+c * d={e} [ f ] < g > ~ h ^ i _ j | k \\ l"),
        ("100-200, 3.14, .5, 5., 1,2,3,a", "100 - 200, 3.14, 0.5, 5, 1, 2, 3, a"),
        ("'quoted' ''twice'' `back`", "\"quoted\" \"twice\" 'back'"),
        ("#hash @at $5 100% A&B", "# hash @ at $ 5 100 % A & B"),
        ("..,,..", "...,,,"),
    ],
    "entities": [
        ("&quot;Yes&quot; &amp; &lt;no&gt;", "\"Yes\" & <no>"),
        ("&amp;quot; &amp;lt; &apos;", "&quot; &lt; '"),
        ("AT&T <skipped> hyphen-\nated line\nbreak", "AT&T hyphenated line break"),
        ("&amp &quot &lt;br/&gt;", "& \" <br/>"),
    ],
    "spaces": [
        ("  leading and trailing  ", "leading and trailing"),
        ("tab\tand\u00a0no-break\u3000wide", "tab and no-break wide"),
        ("a\u2028b\u2029c\u0085d", "a b c d"),
        ("unit\u001fseparator\u001cfile", "unit separator file"),
        ("zero\u200bwidth joiner\u200dhere", "zero width joiner here"),
        ("\u3000\u3000", "nothing"),
    ],
    "edges": [
        ("", "Nothing was said."),
        ("Something was said.", ""),
        ("", ""),
        ("Identical in every character, even this one.", "Identical in every character, even this one."),
        ("alpha beta gamma delta", "one two three four five"),
        ("x", "x"),
        (".", "."),
        ("one two three", "one two three"),
    ],
    "short": [("a b", "a b"), ("a", "b"), ("c d e", "c d")],
    "disjoint": [("aaa bbb ccc ddd", "eee fff ggg hhh"), ("iii", "jjj kkk")],
    "empty": [("", "a reference"), ("", "another")],
    "two references": [
        ("The weather is nice today.", "The weather is lovely today.", "Today the weather is nice."),
        ("He gave the book to her.", "He gave her the book.", "The book was given to her by him."),
        ("we will see", "We shall see.", ""),
        ("今天天气很好。", "今天天气不错。", "今日天气很好。"),
    ],
    "three references": [
        ("the cat the cat on the mat", "The cat sat on the mat.", "There is a cat on the mat.", "the the cat"),
        ("a b c", "a b c d", "a b", "x y z w"),
    ],
}

SMOOTHING = [("exp", None), ("floor", None), ("floor", 0.01), ("add-k", None), ("add-k", 0.5), ("none", None)]


def bleu_settings():
    """Every tokenizer with every smoothing, with and without case."""
    for tokenizer, lowercase in itertools.product(["13a", "zh", "char", "intl", "none"], [False, True]):
        for method, value in SMOOTHING:
            yield {"tokenize": tokenizer, "smooth_method": method, "smooth_value": value, "lowercase": lowercase}


def chrf_settings():
    for words, lowercase, whitespace, eps in itertools.product([0, 2], *[[False, True]] * 3):
        yield {"word_order": words, "lowercase": lowercase, "whitespace": whitespace, "eps_smoothing": eps}
    yield {"char_order": 4, "word_order": 1, "beta": 1}
    yield {"char_order": 0, "word_order": 3, "beta": 3}


def score(request):
    metric = {"bleu": BLEU, "chrf": CHRF}[request["metric"]](**request["settings"])
    result = metric.corpus_score(request["hypotheses"], request["references"])
    return {"score": result.score, "line": str(result), "signature": str(metric.get_signature())}


def transposed(rows):
    hypotheses, *references = [list(column) for column in zip(*rows)]
    return {"hypotheses": hypotheses, "references": references}


def golden():
    """The corpora, and for each setting the scores of all corpora and of all sentences, in order."""
    corpora = {name: transposed(rows) for name, rows in CORPORA.items()}
    single = [r for rows in CORPORA.values() for r in rows if len(r) == 2]
    corpora["all with one reference"] = transposed(single)
    runs = []
    settings = [("bleu", s) for s in bleu_settings()] + [("chrf", s) for s in chrf_settings()]
    for metric, setting in settings:
        results = [score({"metric": metric, "settings": setting, **c}) for c in corpora.values()]
        alone = {**setting, "effective_order": True} if metric == "bleu" else setting
        sentences = [
            score({"metric": metric, "settings": alone, **transposed([row])})["score"]
            for rows in CORPORA.values()
            for row in rows
        ]
        runs.append(
            {"metric": metric, "settings": setting, "corpora": [list(r.values()) for r in results], "sentences": sentences}
        )
    return {"sacrebleu": __version__, "corpora": corpora, "runs": runs}


def print_golden():
    """One line for each corpus and each setting, so that a change can be read."""
    data = golden()
    dump = lambda value: json.dumps(value, ensure_ascii=True)
    print("{")
    print(f'"sacrebleu": {dump(data["sacrebleu"])},')
    print('"corpora": [')
    print(",\n".join(dump({"name": name, **corpus}) for name, corpus in data["corpora"].items()))
    print('],\n"runs": [')
    print(",\n".join(dump(run) for run in data["runs"]))
    print("]\n}")


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        json.dump([score(request) for request in json.load(sys.stdin)], sys.stdout)
    else:
        print_golden()
