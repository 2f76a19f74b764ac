import { t } from "./catalogue";

/** A value's place in words: `decoder.layers.1.cross_attention.sum` is the decoder's second layer, cross-attention. */
export function place(name: string): string {
  const found = /^(encoder|decoder)\.layers\.(\d+)\.(self_attention|cross_attention|feed_forward)/.exec(name);
  if (!found) return name.includes(".embedding") ? t("place.embedding") : name;
  const half = t(found[1] === "encoder" ? "map.encoder" : "map.decoder");
  const boxes = { self_attention: "map.self", cross_attention: "map.cross", feed_forward: "map.feedForward" } as const;
  const box = t(boxes[found[3] as keyof typeof boxes]);
  return t("place.layer", half, Number(found[2]) + 1, box);
}

/** A head in words; `attention` is such as `encoder.layers.0.self_attention`. */
export function headPlace(attention: string, head: number): string {
  return t("place.head", place(attention), head + 1);
}
