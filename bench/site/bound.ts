export interface Rates {
  /** Bits per second; unlimited when absent. */
  readonly originUp?: number | undefined;
  readonly nodeUp?: number | undefined;
  readonly nodeDown?: number | undefined;
}

/**
 * The least seconds in which `bytes` can reach all of `nodes` receivers: the fluid bound of Kumar and Ross (2006),
 * max(F/u_s, F/d, N·F/(u_s+N·u)). Payload bits alone: headers make 1.05 the floor of what is measured against it.
 */
export function fluidBound(bytes: number, nodes: number, { originUp, nodeUp, nodeDown }: Rates): number {
  const bits = bytes * 8;
  const [origin, up, down] = [originUp, nodeUp, nodeDown].map((rate) => rate ?? Number.POSITIVE_INFINITY) as [
    number,
    number,
    number,
  ];
  return Math.max(bits / origin, bits / down, (nodes * bits) / (origin + nodes * up));
}
