import { command } from '../host/command.ts';
import type { Namespace } from './namespace.ts';

/** What has left through a shaped interface, as its class counted it: whole Ethernet frames, retransmissions included. */
export interface Counter {
  readonly bytes: number;
  readonly packets: number;
  /** Packets that found the queue full. They are not in `bytes`. */
  readonly drops: number;
}

/** For links that are only counted: no rate that this machine reaches. */
export const UNLIMITED = 100e9;

const CLASS = '1:1';
/** Bytes that may leave back to back; below one segmentation-offload packet (64 KiB) the rate would not be reached. */
const MIN_BURST = 64 * 1024;
/** Seconds of the rate that one burst may hold: the kernel's timer tick, so that fast links are not held back by it. */
const BURST_SECONDS = 0.004;
/** Seconds of the rate that may wait: a small router's buffer. Longer queues only add delay. */
const QUEUE_SECONDS = 0.1;
const MIN_QUEUE = 128 * 1024;
const MAX_QUEUE = 4 * 1024 * 1024;

/**
 * Holds what leaves through an interface to a rate (bits per second, Ethernet frames), and counts it. htb with one
 * class, and a queue bounded in bytes. The kernel charges a segmentation-offload packet with the headers of all the
 * frames it becomes (qdisc_pkt_len_init), so offloads may stay on and the bytes are those of the wire.
 */
export async function shape(namespace: Namespace, name: string, bitsPerSecond: number): Promise<void> {
  await tc(namespace, 'qdisc', 'replace', 'dev', name, 'root', 'handle', '1:', 'htb', 'default', '1');
  await reshape(namespace, name, bitsPerSecond);
}

/** Gives a shaped interface another rate, while it carries traffic. Its counter goes on. */
export async function reshape(namespace: Namespace, name: string, bitsPerSecond: number): Promise<void> {
  const bytesPerSecond = bitsPerSecond / 8;
  const burst = String(Math.max(MIN_BURST, Math.round(bytesPerSecond * BURST_SECONDS)));
  const queue = Math.min(MAX_QUEUE, Math.max(MIN_QUEUE, Math.round(bytesPerSecond * QUEUE_SECONDS)));
  const rate = ['rate', `${bitsPerSecond}bit`, 'burst', burst, 'cburst', burst, 'quantum', '60000'];
  await tc(namespace, 'class', 'replace', 'dev', name, 'parent', '1:', 'classid', CLASS, 'htb', ...rate);
  await tc(
    namespace,
    ...['qdisc', 'replace', 'dev', name, 'parent', CLASS, 'handle', '10:', 'bfifo', 'limit', String(queue)],
  );
}

/** The counter of an interface that was given to `shape`. */
export async function readCounter(namespace: Namespace, name: string): Promise<Counter> {
  const { stdout } = await command(['tc', '-n', namespace.name, '-s', 'class', 'show', 'dev', name]);
  const counter = parseCounter(stdout);
  if (!counter) throw new TypeError(`interface ${name} of ${namespace.name} is not shaped, so it has no counter`);
  return counter;
}

/** The counter in the words of `tc -s class show`; its JSON form lacks classes in iproute2 6.1. */
export function parseCounter(text: string): Counter | undefined {
  const [, bytes, packets, drops] =
    /^class htb 1:1 .*\n\s*Sent (\d+) bytes (\d+) pkt \(dropped (\d+),/m.exec(text) ?? [];
  if (bytes === undefined) return undefined;
  return { bytes: Number(bytes), packets: Number(packets), drops: Number(drops) };
}

function tc(namespace: Namespace, ...args: string[]) {
  return command(['tc', '-n', namespace.name, ...args]);
}
