import type { Activation } from "./document";

export function activate(kind: Activation, x: number): number {
  switch (kind) {
    case "relu":
      return Math.max(0, x);
    case "relu_squared":
      return Math.max(0, x) ** 2;
    case "gelu":
      return (x * (1 + erf(x / Math.SQRT2))) / 2;
    case "swish":
      return x / (1 + Math.exp(-x));
    case "gelu_tanh":
      return (x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))) / 2;
    case "gelu_sigmoid":
      return x / (1 + Math.exp(-1.702 * x));
    case "tanh":
      return Math.tanh(x);
  }
}

/** Abramowitz and Stegun, 7.1.26: within 1.5e-7. */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - series * Math.exp(-x * x));
}
