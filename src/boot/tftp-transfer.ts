import { encodeTftp, type TftpPacket } from './tftp-packet.ts';

/** What a client asked for and gets (RFC 2348, 2349, 7440). */
export interface TransferOptions {
  /** Bytes of a block. */
  readonly blockSize: number;
  /** Blocks in flight. */
  readonly windowSize: number;
  /** Silence after which the window is sent again, ms. */
  readonly timeoutMs: number;
  /** What the OACK repeats: only options that are honoured, so empty when the client asked for none. */
  readonly acknowledged: ReadonlyMap<string, string>;
}

export const transferDefaults = { blockSize: 512, windowSize: 1, timeoutMs: 1000 } as const;
/** 1468 fits an Ethernet frame; more would be fragments, which firmware reassembles badly or not at all. */
const MAX_BLOCK_SIZE = 1468;
const MAX_WINDOW_SIZE = 32;

/** Honours what is sensible; a value out of the standards' range is ignored, as RFC 2347 wants. */
export function negotiate(asked: ReadonlyMap<string, string>, fileSize: number): TransferOptions {
  const acknowledged = new Map<string, string>();
  const take = (name: string, low: number, high: number, most: number): number | undefined => {
    const text = asked.get(name) ?? '';
    const value = /^\d{1,6}$/.test(text) ? Number(text) : -1;
    if (value < low || value > high) return undefined;
    acknowledged.set(name, String(Math.min(value, most)));
    return Math.min(value, most);
  };
  const blockSize = take('blksize', 8, 65_464, MAX_BLOCK_SIZE) ?? transferDefaults.blockSize;
  const windowSize = take('windowsize', 1, 65_535, MAX_WINDOW_SIZE) ?? transferDefaults.windowSize;
  const seconds = take('timeout', 1, 255, 255);
  // EDK2 and iPXE give up on a server without tsize; a client asks with 0 and is told.
  if (asked.has('tsize')) acknowledged.set('tsize', String(fileSize));
  return { blockSize, windowSize, acknowledged, timeoutMs: (seconds ?? transferDefaults.timeoutMs / 1000) * 1000 };
}

/** What a session does next: packets to send, or an end. */
export type TransferStep =
  | { readonly kind: 'send'; readonly packets: readonly Uint8Array[] }
  | { readonly kind: 'ignore' }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly reason: string };

const MAX_RETRIES = 5;

/**
 * The sender of one file, pure: every call says what to send. Blocks count from 1 on without end; on the wire they
 * are 16 bits and roll over to 0 (so a 512 byte transfer may exceed 32 MiB).
 */
export class TftpTransfer {
  readonly #bytes: Uint8Array;
  readonly #options: TransferOptions;
  readonly #lastBlock: number;
  #acknowledged = -1;
  #sent = 0;
  #retries = 0;

  constructor(bytes: Uint8Array, options: TransferOptions) {
    this.#bytes = bytes;
    this.#options = options;
    // A file of whole blocks ends with an empty one (RFC 1350 section 6).
    this.#lastBlock = Math.floor(bytes.length / options.blockSize) + 1;
  }

  /** True once the client has answered anything: it is no forged request. */
  get answered(): boolean {
    return this.#acknowledged >= 0;
  }

  start(): TransferStep {
    if (this.#options.acknowledged.size > 0) {
      return { kind: 'send', packets: [encodeTftp({ kind: 'oack', options: this.#options.acknowledged })] };
    }
    return { kind: 'send', packets: this.#window(0) };
  }

  receive(packet: TftpPacket): TransferStep {
    if (packet.kind === 'error') return { kind: 'failed', reason: `${packet.code} ${packet.message}` };
    if (packet.kind !== 'ack') return { kind: 'ignore' };
    const block = this.#absolute(packet.block);
    // A second ACK of the same block is not answered: that would send everything twice from there on
    // (the Sorcerer's Apprentice bug, RFC 1123 section 4.2.3.1). A lost block is seen by the timeout.
    if (block === undefined || block <= this.#acknowledged) return { kind: 'ignore' };
    this.#acknowledged = block;
    this.#retries = 0;
    if (block === this.#lastBlock) return { kind: 'done' };
    return { kind: 'send', packets: this.#window(block) };
  }

  /** Nothing was heard for `timeoutMs`. */
  timeout(): TransferStep {
    this.#retries += 1;
    if (this.#retries > MAX_RETRIES) return { kind: 'failed', reason: 'the client fell silent' };
    if (this.#acknowledged < 0) return this.start();
    return { kind: 'send', packets: this.#window(this.#acknowledged) };
  }

  /** The block that 16 bits mean: one of those in flight. Undefined for what was never sent. */
  #absolute(wire: number): number | undefined {
    const base = Math.max(0, this.#acknowledged);
    const ahead = (wire - (base & 0xffff) + 0x10000) & 0xffff;
    const block = base + ahead;
    return block <= this.#sent ? block : undefined;
  }

  /** RFC 7440: from the block after `acknowledged`, wherever within the last window that lies. */
  #window(acknowledged: number): Uint8Array[] {
    const { blockSize, windowSize } = this.#options;
    const last = Math.min(this.#lastBlock, acknowledged + windowSize);
    const packets: Uint8Array[] = [];
    for (let block = acknowledged + 1; block <= last; block++) {
      const bytes = this.#bytes.subarray((block - 1) * blockSize, block * blockSize);
      packets.push(encodeTftp({ kind: 'data', block: block & 0xffff, bytes }));
    }
    this.#sent = Math.max(this.#sent, last);
    return packets;
  }
}
