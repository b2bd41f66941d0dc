/** A connection of two nodes. */
export interface Link {
  readonly a: number;
  readonly b: number;
  readonly near: boolean;
  /** When it was opened: no two links of two nodes are opened at the same time. */
  readonly bornMs: number;
  /** False once it is cut: nothing that is under way on it arrives. */
  up: boolean;
}

/** A chunk on its way. */
export interface Transfer {
  /** No other one has it. */
  readonly name: number;
  readonly link: Link;
  readonly from: number;
  readonly to: number;
  readonly index: number;
  /** What the bytes are; see content.ts. */
  readonly tag: number;
  readonly bytes: number;
  /** Life of the sender when it left: what a sender had on its link when it died is lost. */
  readonly life: number;
}

/** TCP and IPv4 headers with time stamps, and the Ethernet header, on each segment of 1,448 bytes. */
const HEADERS = 1514 / 1448;

/** Milliseconds that `bytes` of payload keep a line of `rate` bits/s busy. */
export function onWire(bytes: number, rate: number): number {
  return (bytes * HEADERS * 8 * 1000) / rate;
}
