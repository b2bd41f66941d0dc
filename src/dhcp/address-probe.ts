import { createSocket } from 'node:dgram';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** How long an ARP answer may take on one segment, ms. */
const WAIT_MS = 200;
/** The discard port (RFC 863): nobody answers, but the kernel has to ask for the address first. */
const DISCARD_PORT = 9;
/** ATF_COM of net/if_arp.h: the entry has a hardware address. */
const COMPLETE = 0x2;
/** More at a time are not probed: the kernel's neighbour table is bounded as well. */
const MAX_PROBES = 64;

let running = 0;

/**
 * Whether a machine other than `mac` answers ARP for `address`. Needs no privileges: it sends a datagram there and
 * reads what the kernel then learnt. False when nobody answers in 200 ms, or when it cannot be found out.
 */
export async function isTaken(address: string, mac: string, { signal }: { signal: AbortSignal }): Promise<boolean> {
  if (running >= MAX_PROBES) return false;
  running += 1;
  const socket = createSocket('udp4');
  try {
    socket.on('error', () => {}); // Unreachable is as good as silent.
    socket.send(new Uint8Array(), DISCARD_PORT, address, () => {});
    await delay(WAIT_MS, undefined, { signal });
    const owner = await arpOwner(address);
    return owner !== undefined && owner !== mac;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    running -= 1;
    socket.close();
  }
}

/** The hardware address that the kernel has for an IPv4 neighbour; undefined when it has none, or is no Linux. */
export async function arpOwner(address: string): Promise<string | undefined> {
  const table = await readFile('/proc/net/arp', 'utf8').catch(() => '');
  return arpEntry(table, address);
}

/** The hardware address of a complete entry in the text of /proc/net/arp (`address type flags mac mask device`). */
export function arpEntry(table: string, address: string): string | undefined {
  for (const line of table.split('\n').slice(1)) {
    const [ip, , flags, mac] = line.split(/\s+/);
    if (ip === address && (Number(flags) & COMPLETE) !== 0) return mac?.toLowerCase();
  }
  return undefined;
}
