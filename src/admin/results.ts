export interface ArtifactLine {
  readonly name: string;
  readonly cid: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256?: string;
}

export interface PublishResult {
  readonly channel: string;
  readonly version: number;
  /** Bytes of its distinct chunks: what has to travel once. */
  readonly payloadBytes: number;
  readonly artifacts: readonly ArtifactLine[];
}

export interface GetResult {
  readonly cid: string;
  /** Bytes written. */
  readonly size: number;
  /** Hexadecimal, of the bytes written. */
  readonly sha256: string;
  /** Bytes fetched from others for this, by peer; absent or empty when all was here. */
  readonly from?: Readonly<Record<string, number>>;
  /** …and in all: what crossed the wire, which is less than the file where chunks came compressed or were here. */
  readonly transferred?: number;
  /** Plain bytes taken from the seeds. */
  readonly seeded?: number;
}

export interface PeerLine {
  readonly peerId: string;
  readonly name?: string;
  readonly site: string;
  readonly connected: boolean;
  readonly address?: string;
  readonly rttMs?: number;
  /**
   * How it is reached while it is connected: on the segment or at another address of its own (lan, wan), by the overlay
   * from interface to interface, or by the overlay through the gateway `via`.
   */
  readonly path?: 'lan' | 'wan' | 'overlay' | 'gateway';
  readonly via?: string;
  /** What chunk bytes travel by; absent while it is not connected. */
  readonly lane?: 'stream' | 'tls' | 'plain';
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Bytes of requests and the like, both ways, since the exchange with it stands. */
  readonly messageBytes?: number;
  /** ISO time. */
  readonly bannedUntil?: string;
}

export interface ChannelLine {
  readonly channel: string;
  /** Absent while no release of the channel has been verified here. */
  readonly version?: number;
  /** Share of its bytes that are in this node's store, 0 to 1. */
  readonly held?: number;
  /** Its signed metadata has expired: what runs goes on, nothing new is installed. */
  readonly stale?: boolean;
}

export interface StatusResult {
  readonly peerId: string;
  readonly node?: string;
  readonly site: string;
  readonly data: string;
  /** False when no agent is running and the command opened the store itself. */
  readonly agent: boolean;
  readonly uptimeSeconds?: number;
  readonly peersConnected: number;
  readonly channels: readonly ChannelLine[];
  readonly store: { readonly chunks: number; readonly bytes: number; readonly diskBytes: number };
  /** Where others reach it: multiaddrs of the swarm, URLs of the gateway. */
  readonly addresses: readonly string[];
  readonly boot?: BootLine;
  /** Absent where nothing is capped. */
  readonly rates?: RatesLine;
  /** Absent where background downloads run at any hour; `opens` while they pause: day and time of the hours' clock. */
  readonly background?: { readonly open: boolean; readonly opens?: string };
  /** This node is no member of its fleet any more; absent while it is not revoked. */
  readonly revoked?: RevokedLine;
  /** Absent while nothing is wrong with this machine's clock. */
  readonly clock?: ClockLine;
  /** What was wrong with release metadata since the agent started; absent when nothing was. */
  readonly faults?: readonly FaultLine[];
}

export interface RevokedLine {
  /** Name of the issuer. */
  readonly by: string;
  /** ISO time. */
  readonly at: string;
  readonly why?: string;
}

export interface ClockLine {
  /**
   * behind: the clock shows an earlier time than is certainly over, which counts instead. ahead: a key of the fleet has
   * signed at a later time than the clock shows, so that one of the two is wrong.
   */
  readonly fault: 'behind' | 'ahead';
  /** ISO times: of the clock, and that which was signed. */
  readonly shows: string;
  readonly signed: string;
}

/** What chunk bytes may take in any second, bytes per second; absent: no limit. */
export interface RatesLine {
  readonly down?: number;
  readonly up?: number;
  /** Of the whole site, and what of that is this node's share now. */
  readonly uplink?: { readonly down?: number; readonly up?: number };
  readonly share?: { readonly down?: number; readonly up?: number };
}

export interface FaultLine {
  /**
   * fork: the fleet's online key signed two states of one version. rollback: it signed an older state as a newer one.
   * refused: the peer sent what no key of the fleet has signed.
   */
  readonly kind: 'fork' | 'rollback' | 'refused';
  readonly peerId: string;
  readonly what: string;
  readonly count: number;
  /** ISO time of the last one. */
  readonly lastAt: string;
}

export interface BootLine {
  readonly mode: string;
  /** What it is to bare machines; undecided while another DHCP server is looked for. */
  readonly role: 'undecided' | 'server' | 'proxy' | 'off';
  /** The release it boots them with, when all of it is here. */
  readonly release?: { readonly channel: string; readonly version: number } | undefined;
  /** What it cannot do, and what it would need for it. */
  readonly missing: readonly string[];
}

export interface PinLine {
  readonly name: string;
  readonly cid: string;
  readonly size?: number;
  readonly held?: number;
}

export interface GcResult {
  readonly evictedChunks: number;
  readonly evictedBytes: number;
  /** Bytes by which the segment files shrank. */
  readonly freedBytes: number;
}

export interface VerifyResult {
  readonly chunks: number;
  readonly bytes: number;
  readonly damaged: readonly { readonly cid: string; readonly file: string; readonly offset: number }[];
}

export interface InviteResult {
  /** Lets in one machine; secret until then. */
  readonly token: string;
  readonly site: string;
  /** ISO time. */
  readonly notAfter: string;
  /** Multiaddrs of the door where it is used. */
  readonly addresses: readonly string[];
}

export interface PendingLine {
  readonly peerId: string;
  /** What it calls itself. */
  readonly name: string;
  /** What it says that it is known by: `mac:…`, `serial:…`, `uuid:…`. */
  readonly machine: readonly string[];
  /** ISO times. */
  readonly firstAt: string;
  readonly lastAt: string;
}

export interface MemberLine {
  readonly peerId: string;
  readonly name: string;
  readonly site: string;
  readonly roles: readonly string[];
  /** In the overlay. */
  readonly address: string;
  readonly issuer: string;
  /** ISO times. */
  readonly since: string;
  readonly notAfter: string;
  /** grace: its certificate is over, and counts on until an issuer is back. taken: another member had its WireGuard key before. */
  readonly state: 'member' | 'grace' | 'revoked' | 'expired' | 'early' | 'taken';
  /** By whom and when; absent while it is not revoked. */
  readonly revoked?: RevokedLine;
  readonly connected: boolean;
  /** This node. */
  readonly self: boolean;
}

/** What came of asking one member for one chunk. */
export interface PingLine extends Pick<PeerLine, 'peerId' | 'name' | 'site' | 'path' | 'via' | 'address' | 'lane'> {
  /** none: it has none of the chunks that it was asked for; unreachable: it was not reached, `why` says the rest. */
  readonly outcome: 'chunk' | 'none' | 'unreachable';
  readonly why?: string;
  /** The chunk, verified, its bytes, and milliseconds from the question to the last of them. */
  readonly cid?: string;
  readonly bytes?: number;
  readonly ms?: number;
}

export interface CourierResult {
  /** Bytes written. */
  readonly size: number;
  /** Hexadecimal, of the bytes written. */
  readonly sha256: string;
  readonly statements: number;
}

export interface CourierNews {
  /** The signed metadata was newer than that of this node. */
  readonly metadata: boolean;
  /** Statements of members that this node had not heard. */
  readonly news: number;
  /** …and such as no issuer of the fleet may have signed. */
  readonly refused: number;
}

export interface DeviceResult {
  readonly name: string;
  /** By which it is revoked; no key of it is kept. */
  readonly peerId: string;
  readonly site: string;
  /** In the overlay. */
  readonly address: string;
  /** ISO time. */
  readonly notAfter: string;
  /** For wg-quick, with the private key in it. */
  readonly configuration: string;
}

export interface OverlayLine {
  /** off: not wanted, or no fleet with certificates. missing: wanted, and `why` it is not there. */
  readonly state: 'up' | 'off' | 'missing';
  /** Its peers are those of a configuration that was imported, and not the fleet's members. */
  readonly imported?: boolean;
  readonly why?: string;
  readonly interface?: string;
  readonly driver?: 'kernel' | 'userspace';
  /** UDP. */
  readonly port?: number;
  /** With prefix length. */
  readonly address?: string;
  readonly publicKey?: string;
  readonly peers?: readonly OverlayPeerLine[];
}

export interface OverlayPeerLine {
  readonly name?: string;
  readonly site?: string;
  readonly peerId?: string;
  readonly publicKey: string;
  readonly endpoint?: string;
  readonly allowedIps: readonly string[];
  /** ISO time of the last one. */
  readonly handshakeAt?: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** A handshake within three minutes, and the peer is of this site (lan) or of another (direct); else none. */
  readonly path: 'lan' | 'direct' | 'none';
  /** Other sites that are reached through this gateway. */
  readonly carries?: readonly string[];
}

export interface LsResult {
  readonly channels: readonly (ChannelLine & { readonly artifacts: readonly ArtifactLine[] })[];
  readonly pins: readonly PinLine[];
}
