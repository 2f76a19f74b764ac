import { view } from "./view.svelte";

/** A number with three digits that count. */
export function number(x: number): string {
  if (x === Number.NEGATIVE_INFINITY) return "−∞";
  if (x === Number.POSITIVE_INFINITY) return "∞";
  if (Number.isNaN(x)) return "–";
  if (Number.isInteger(x) && Math.abs(x) < 9999.5) return String(x).replace("-", "−");
  const size = Math.abs(x);
  let text: string;
  if (size >= 9999.5 || size < 0.00095) text = x.toExponential(2).replace("e+", "e");
  else if (size >= 999.5) text = x.toFixed(0);
  else if (size >= 99.95) text = x.toFixed(1);
  else if (size >= 9.995) text = x.toFixed(2);
  else text = x.toFixed(3);
  return text.replace("-", "−");
}

/** A short number for a cell. */
export function short(x: number): string {
  if (!Number.isFinite(x)) return number(x);
  const size = Math.abs(x);
  const text = size >= 99.5 ? x.toFixed(0) : size >= 9.95 ? x.toFixed(1) : x.toFixed(2);
  return text.replace("-", "−").replace(/^(−?)0\./, "$1.");
}

/** As the page's language writes it: English with a space before the sign, Chinese without. */
export function percent(p: number): string {
  const sign = view.language === "zh" ? "%" : " %";
  if (Number.isInteger(100 * p) || p >= 0.9995) return `${Math.round(100 * p)}${sign}`.replace("-", "−");
  if (p >= 0.1) return `${(100 * p).toFixed(1)}${sign}`;
  if (p >= 0.001) return `${(100 * p).toFixed(2)}${sign}`;
  return `< 0.1${sign}`;
}

/** What stands between a heading and its subject. */
export function colon(): string {
  return view.language === "zh" ? "：" : ": ";
}

/** A whole number; in English with commas between thousands. */
export function count(n: number): string {
  const digits = String(Math.round(n));
  return view.language === "zh" ? digits : digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Characters that cannot be seen, by signs that can. */
const SIGNS: Record<string, string> = {
  " ": "␣",
  "\u00a0": "⍽",
  "\t": "⇥",
  "\n": "⏎",
  "\r": "␍",
  "\u3000": "□",
};

/** A piece as it can be seen: no character of it is invisible or changes the direction of others. */
export function piece(text: string): string {
  let shown = "";
  for (const character of text) {
    const sign = SIGNS[character];
    if (sign) shown += sign;
    else if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/u.test(character) && character !== "\u200d")
      shown += `⟨${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
    else shown += character;
  }
  return shown || "∅";
}
