/** Colours of numbers: blue below zero, orange above; one hue for weights. */
export interface Scale {
  signed: boolean;
  /** The number that has the full colour. */
  limit: number;
}

const BLUE = [38, 103, 176] as const;
const ORANGE = [205, 92, 20] as const;
const GREEN = [14, 116, 88] as const;

/** The size below which 99 of 100 numbers lie: one outlier must not fade all others. */
export function scaleOf(numbers: Iterable<number>, signed: boolean): Scale {
  const sizes: number[] = [];
  for (const x of numbers) if (Number.isFinite(x)) sizes.push(Math.abs(x));
  sizes.sort((a, b) => a - b);
  const limit = sizes[Math.min(sizes.length - 1, Math.floor(sizes.length * 0.99))] ?? 1;
  return { signed, limit: limit || sizes[sizes.length - 1] || 1 };
}

/** Red, green and blue behind the cells of a figure, as its style says. */
export function backgroundOf(style: CSSStyleDeclaration): [number, number, number] {
  const [red = 255, green = 255, blue = 255] = (style.getPropertyValue("--cell").match(/\d+/g) ?? []).map(Number);
  return [red, green, blue];
}

/** Red, green and blue of `x` on a background. */
export function colour(x: number, scale: Scale, background: readonly [number, number, number]): [number, number, number] {
  if (!Number.isFinite(x)) return [background[0], background[1], background[2]];
  const share = Math.min(1, Math.abs(x) / scale.limit) ** 0.8;
  const full = !scale.signed ? GREEN : x < 0 ? BLUE : ORANGE;
  const mix = (i: 0 | 1 | 2) => Math.round(background[i] + (full[i] - background[i]) * share);
  return [mix(0), mix(1), mix(2)];
}

/** Black or white, whichever is read more easily on a colour. */
export function ink([r, g, b]: readonly [number, number, number]): string {
  const linear = (v: number) => {
    const s = v / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  };
  const light = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  return light > 0.18 ? "#10151c" : "#ffffff";
}
