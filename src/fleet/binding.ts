import type { KeyObject } from 'node:crypto';
import { isIP } from 'node:net';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { BindingSchema } from './membership_pb.ts';
import { type OpenedStatement, openStatement, StatementRefused, sealStatement } from './statement.ts';

export interface BindingFacts {
  readonly peerId: string;
  /** Multiaddrs of its swarm: an IP address and a TCP port, without `/p2p/…`. */
  readonly addresses: readonly string[];
  /** Of its WireGuard interface: `192.0.2.7:51820`, `[2001:db8::7]:51820`. */
  readonly endpoints: readonly string[];
  /** The greatest counts. */
  readonly sequence: number;
}

/** Where a member says that it is to be found. Whether it is, whoever connects there finds out: its keys prove it. */
export interface Binding extends BindingFacts {
  /** As it is stored and sent. */
  readonly bytes: Uint8Array;
}

/** Of each kind; a machine with more names the best. */
export const MAX_PLACES = 8;

/** @param key the member's own, of which its peer id is made */
export function sealBinding(facts: BindingFacts, key: KeyObject, fleetId: string): Binding {
  const { peerId, addresses, endpoints, sequence } = facts;
  const message = create(BindingSchema, {
    fleetId: Buffer.from(fleetId, 'hex'),
    peerId,
    addresses: [...addresses],
    endpoints: [...endpoints],
    sequence: BigInt(sequence),
  });
  return readBinding(openStatement(sealStatement('binding', toBinary(BindingSchema, message), key)), fleetId);
}

/** Throws `StatementRefused` unless the peer itself said it, of a fleet with this id. */
export function readBinding(statement: OpenedStatement, fleetId: string): Binding {
  const { fleetId: ofFleet, key, ...facts } = decode(statement);
  if (ofFleet !== fleetId) throw new StatementRefused('fleet', `a binding of another fleet (${ofFleet})`);
  if (key !== statement.signer || !statement.isSigned()) {
    throw new StatementRefused('signature', `a binding of ${facts.peerId} that it has not signed`);
  }
  return { ...facts, bytes: statement.bytes };
}

function decode({ kind, body }: OpenedStatement): BindingFacts & { readonly fleetId: string; readonly key: string } {
  if (kind !== 'binding') throw new StatementRefused('malformed', `a ${kind} and no binding`);
  try {
    const wire = fromBinary(BindingSchema, body, { readUnknownFields: false });
    const { peerId, addresses, endpoints } = wire;
    if (addresses.length > MAX_PLACES || endpoints.length > MAX_PLACES) throw new RangeError('too many places');
    const wrong = addresses.find((address) => !isAddress(address)) ?? endpoints.find((one) => !isEndpoint(one));
    if (wrong !== undefined) throw new RangeError(`${JSON.stringify(wrong.slice(0, 64))} is no place`);
    if (wire.sequence > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError('a sequence without end');
    const { type, publicKey } = peerIdFromString(peerId);
    if (type !== 'Ed25519') throw new RangeError('no ed25519 peer id');
    const key = Buffer.from(publicKey.raw).toString('hex');
    const fleetId = Buffer.from(wire.fleetId).toString('hex');
    return { fleetId, key, peerId, addresses, endpoints, sequence: Number(wire.sequence) };
  } catch (cause) {
    throw new StatementRefused('malformed', `not a binding: ${(cause as Error).message}`, { cause });
  }
}

/** Nothing that a name server would have to be asked about, and no way through others. */
function isAddress(text: string): boolean {
  try {
    const [host, transport, ...rest] = multiaddr(text).getComponents();
    if (host === undefined || transport === undefined || rest.length > 0) return false;
    return ['ip4', 'ip6'].includes(host.name) && transport.name === 'tcp' && isPort(transport.value);
  } catch {
    return false;
  }
}

function isEndpoint(text: string): boolean {
  const [, six, four, port] = /^(?:\[([0-9a-f:.]{2,45})\]|([0-9.]{7,15})):(\d{1,5})$/.exec(text) ?? [];
  return isIP(six ?? four ?? '') === (six === undefined ? 4 : 6) && isPort(port);
}

function isPort(text: string | undefined): boolean {
  const port = Number(text);
  return Number.isInteger(port) && port > 0 && port < 65_536;
}
