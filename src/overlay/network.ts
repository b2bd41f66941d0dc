import { createPrivateKey, createPublicKey } from 'node:crypto';

/** One machine's view of a WireGuard network. Every string is plain ASCII in its canonical spelling. */
export interface WireGuardNetwork {
  readonly interface: {
    /** `10.0.0.2/24`, at least one. */
    readonly addresses: readonly string[];
    /** UDP port; the kernel chooses when absent. */
    readonly listenPort?: number;
    /** Bytes. */
    readonly mtu?: number;
    /** Belongs to `privateKey`. */
    readonly publicKey: string;
    readonly privateKey: SecretKey;
  };
  readonly peers: readonly WireGuardPeer[];
}

export interface WireGuardPeer {
  /** Base64, as `wg` writes it. */
  readonly publicKey: string;
  readonly presharedKey?: SecretKey;
  /** `host.example:51820`, `192.0.2.1:51820`, `[2001:db8::1]:51820`; absent when only the peer can begin. */
  readonly endpoint?: string;
  /** Blocks such as `10.0.0.0/24`, at least one; no two peers share an address. */
  readonly allowedIps: readonly string[];
  /** Seconds. */
  readonly persistentKeepalive?: number;
}

/** 32 bytes that do not show in JSON, in logs or when inspected. */
export class SecretKey {
  readonly #bytes: Buffer;

  /** @param base64 as in a configuration, already checked */
  constructor(base64: string) {
    this.#bytes = Buffer.from(base64, 'base64');
  }

  /** For the one place that hands the key to WireGuard. */
  reveal(): Buffer {
    return this.#bytes;
  }

  /** What `wg pubkey` prints (X25519, RFC 7748), without putting the key on a command line. */
  publicKey(): string {
    // PKCS #8 around a raw X25519 key, RFC 8410 section 7.
    const der = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), this.#bytes]);
    const key = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }));
    return key.export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64');
  }

  toJSON(): string {
    return '(secret)';
  }
}
