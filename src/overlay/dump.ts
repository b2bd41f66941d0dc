/** What `wg show <interface> dump` says of the interface and its peers, without what is secret. */
export interface InterfaceDump {
  readonly publicKey: string;
  readonly listenPort: number;
  readonly peers: readonly PeerDump[];
}

export interface PeerDump {
  readonly publicKey: string;
  /** Where its last authentic packet came from, or where it was set to be. */
  readonly endpoint?: string;
  /** Blocks, sorted. */
  readonly allowedIps: readonly string[];
  /** Seconds since 1970; absent before the first. */
  readonly handshakeAt?: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Seconds. */
  readonly keepalive?: number;
}

/** The output is not that of the `wg` that this was written for. */
export class DumpInvalid extends Error {
  readonly code = 'DUMP_INVALID';
}

/** Lines of fields with tabs between them (wg(8), show dump): first the interface, then its peers. */
export function parseDump(text: string): InterfaceDump {
  const [own = [], ...peers] = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t'));
  // The first field is the private key.
  const [, publicKey, listenPort] = own;
  if (own.length !== 4 || publicKey === undefined) throw new DumpInvalid('wg show dump has no line of the interface');
  return { publicKey, listenPort: Number(listenPort), peers: peers.map(parsePeer) };
}

function parsePeer(fields: readonly string[]): PeerDump {
  const [publicKey, , endpoint, allowedIps = '', handshakeAt, bytesIn, bytesOut, keepalive] = fields;
  if (fields.length !== 8 || publicKey === undefined) throw new DumpInvalid('wg show dump has an odd line of a peer');
  return {
    publicKey,
    ...(endpoint !== '(none)' && endpoint !== undefined && { endpoint }),
    allowedIps: allowedIps === '(none)' ? [] : allowedIps.split(',').toSorted(),
    ...(handshakeAt !== '0' && { handshakeAt: Number(handshakeAt) }),
    bytesIn: Number(bytesIn),
    bytesOut: Number(bytesOut),
    ...(keepalive !== 'off' && { keepalive: Number(keepalive) }),
  };
}
