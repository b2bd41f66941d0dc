/** A race of real agents beside the same one simulated. */
export interface Comparison {
  readonly n: number;
  readonly origin_rate: string;
  readonly rate: string;
  readonly payload: string;
  readonly real_s: number;
  readonly simulated_s: number;
  /** (simulated − real) / real */
  readonly difference: number;
}
