import type { ArrayEntry } from "./document";

/** Numbers in row order, with their sizes. */
export interface Tensor {
  shape: number[];
  data: Float32Array;
  /** Whether the file holds them; otherwise they follow from others. */
  recorded: boolean;
  /** The largest difference to what the model computed, by how they are stored. */
  error: number;
}

/** The number at `index`. */
export function at(tensor: Tensor, index: readonly number[]): number {
  let place = 0;
  tensor.shape.forEach((size, axis) => {
    place = place * size + (index[axis] ?? 0);
  });
  return tensor.data[place] ?? Number.NaN;
}

/** The numbers at `index` of all axes but the last. */
export function row(tensor: Tensor, ...index: number[]): Float32Array {
  const width = tensor.shape[tensor.shape.length - 1] ?? 1;
  let place = 0;
  index.forEach((i, axis) => {
    place = place * (tensor.shape[axis] ?? 1) + i;
  });
  return tensor.data.subarray(place * width, (place + 1) * width);
}

/** The bytes that a document's `data` stands for: base64 of gzip. */
export async function unpack(data: string): Promise<ArrayBuffer> {
  const text = atob(data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** The f32 of every f16, by its bits. */
const HALVES = /* @__PURE__ */ halves();

function halves(): Float32Array {
  const table = new Float32Array(1 << 16);
  for (let bits = 0; bits < table.length; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    let value: number;
    if (exponent === 0) value = fraction * 2 ** -24;
    else if (exponent === 31) value = fraction ? Number.NaN : Number.POSITIVE_INFINITY;
    else value = (1 + fraction / 1024) * 2 ** (exponent - 15);
    table[bits] = sign * value;
  }
  return table;
}

/** The array that `entry` describes. */
export function read(entry: ArrayEntry, bytes: ArrayBuffer): Tensor {
  const length = entry.shape.reduce((a, b) => a * b, 1);
  const data = new Float32Array(length);
  const view = new DataView(bytes);
  switch (entry.dtype) {
    case "f32":
      for (let i = 0; i < length; i++) data[i] = view.getFloat32(entry.offset + 4 * i, true);
      break;
    case "i32":
      for (let i = 0; i < length; i++) data[i] = view.getInt32(entry.offset + 4 * i, true);
      break;
    case "f16":
      for (let i = 0; i < length; i++)
        data[i] = HALVES[view.getUint16(entry.offset + 2 * i, true)] ?? Number.NaN;
      break;
    case "i8": {
      const width = entry.shape[entry.shape.length - 1] ?? 1;
      for (let i = 0; i < length; i++) {
        const scale = view.getFloat32((entry.scales ?? 0) + 4 * Math.floor(i / width), true);
        data[i] = view.getInt8(entry.offset + i) * scale;
      }
    }
  }
  return { shape: entry.shape, data, recorded: true, error: entry.error };
}
