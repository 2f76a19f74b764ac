"""What ruaccent-predictor makes of Russian sentences.

    python stress.py OUT.json

Writes [[sentence, the sentence with its stresses], …].
"""

import json
import random
import sys

from ruaccent.accentor import Accentor

WHO = ["мама", "мой брат", "старый учитель", "наша соседка", "молодой врач", "эта девочка", "дедушка", "кошка", "художник", "Иван",
       "её сестра", "весёлый повар", "хозяйка", "почтальон", "каждый ребёнок"]
DOES = ["читает", "видит", "помнит", "забыла", "любит", "рисует", "купил", "потеряла", "ищет", "показывает", "нашёл", "принесла"]
WHAT = ["новую книгу", "большой дом", "синее море", "письмо", "тёплый хлеб", "дорогу", "старые фотографии", "яблоко", "музыку",
        "красивый город", "вечернюю газету", "ключи", "молоко", "берег реки", "зелёный чай"]
WHERE = ["в лесу", "на улице", "дома", "утром", "у окна", "в большом городе", "зимой", "перед сном", "на берегу", "в понедельник",
         "за столом", "без шапки", "вчера вечером", "далеко отсюда"]


def sentences(count):
    rng = random.Random(4)
    found = ["В лесу родилась ёлочка", "Привет!", "Я не знаю, что сказать.", "Где здесь замок?", "мама мыла раму"]
    while len(found) < count:
        who, does, what, where = (rng.choice(words) for words in (WHO, DOES, WHAT, WHERE))
        order = [[who, does, what, where], [where, who, does, what], [who, where, does, what], [what, does, who]]
        text = " ".join(rng.choice(order))
        text = text[0].upper() + text[1:] + rng.choice([".", "?", "!", ""])
        if text not in found:
            found.append(text)
    return found


def main():
    model = Accentor(device="cpu")
    texts = sentences(500)
    found = []
    for i in range(0, len(texts), 5):
        found += model._predict_batch(texts[i : i + 5])
        print(len(found), flush=True)
    rows = [json.dumps(row, ensure_ascii=False) for row in zip(texts, found)]
    with open(sys.argv[1], "w") as out:
        out.write("[\n" + ",\n".join(rows) + "\n]\n")


main()
