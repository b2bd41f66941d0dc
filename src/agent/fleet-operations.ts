import { createHash } from 'node:crypto';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { OperationError, type OperationInput, type OperationOptions } from '../admin/operations.ts';
import type {
  CourierNews,
  CourierResult,
  DeviceResult,
  InviteResult,
  MemberLine,
  PendingLine,
  RevokedLine,
  StatusResult,
} from '../admin/results.ts';
import type { PendingRequest } from '../admission/requests.ts';
import { readGuarded } from '../disk/guarded-file.ts';
import { MAX_COURIER_BYTES, readCourier, writeCourier } from '../enrolment/courier.ts';
import type { Certified } from '../enrolment/membership.ts';
import type { Certificate } from '../fleet/certificate.ts';
import { type Revocation, revoke } from '../fleet/revocation.ts';
import { MEMBER_ROLES, type MemberRole } from '../fleet/trust-list.ts';
import { encodeWireguardKey, newWireguardKey } from '../fleet/wireguard-key.ts';
import { SecretKey } from '../overlay/network.ts';
import { formatNetwork } from '../overlay/wg-quick.ts';
import type { MeshNode } from './node.ts';

/** Nobody renews a device's certificate for it, days. */
const DEVICE_DAYS = 365;
/** A token lives so long unless it is said otherwise, seconds. */
const TOKEN_S = 3600;

/** Rejects with `OperationError` where this node admits nobody. */
export async function invite(node: MeshNode, input: OperationInput<'invite'>): Promise<InviteResult> {
  const { reception, membership, site: ownSite } = node;
  const { certified } = membership;
  if (reception === undefined || certified === undefined) throw noIssuer(node);
  const { site = certified.issuer?.site ?? ownSite, name, machine, seconds = TOKEN_S } = input;
  const roles = (input.roles ?? []).map(roleOf);
  const notAfter = Math.floor(certified.now()) + seconds;
  const bound = { ...(name !== undefined && { name }), ...(machine !== undefined && { machine }) };
  const { token, addresses } = await reception.invite({ site, roles, notAfter, ...bound });
  return { token, site, notAfter: iso(notAfter), addresses };
}

/** Machines that wait to be let in here. Throws `OperationError` where this node admits nobody. */
export function pendingLines(node: MeshNode): PendingLine[] {
  const { reception } = node;
  if (reception === undefined) throw noIssuer(node);
  return reception.pending().map(pendingLine);
}

/** Throws `OperationError` and `StatementRefused`. */
export function approve(node: MeshNode, input: OperationInput<'approve'>): PendingLine {
  const { reception, membership, site: ownSite } = node;
  if (reception === undefined) throw noIssuer(node);
  const { machine, name, site = membership.certified?.issuer?.site ?? ownSite } = input;
  const roles = (input.roles ?? []).map(roleOf);
  const found = reception.approve(machine, { site, roles, ...(name !== undefined && { name }) });
  if (found !== undefined) return pendingLine(found);
  const advice = '`bootmesh fleet pending` lists all, by peer id where names are not clear';
  throw new OperationError('NOT_FOUND', `no machine ${machine} waits here: ${advice}`);
}

function pendingLine({ firstAt, lastAt, ...request }: PendingRequest): PendingLine {
  return { ...request, firstAt: new Date(firstAt).toISOString(), lastAt: new Date(lastAt).toISOString() };
}

/** What an operator should know of this node's membership, and of the time by which it is judged. */
export function fleetStatus({ clock, membership }: MeshNode): Pick<StatusResult, 'clock' | 'revoked'> {
  const { fault } = clock;
  const { revoked } = membership;
  return {
    ...(fault && { clock: { fault: fault.kind, shows: iso(fault.system / 1000), signed: iso(fault.signed / 1000) } }),
    ...(revoked && { revoked: revokedLine(revoked) }),
  };
}

function revokedLine({ issuer, at, why }: Revocation): RevokedLine {
  return { by: issuer, at: iso(at), ...(why !== '' && { why }) };
}

export function memberLines(node: MeshNode): MemberLine[] {
  const { certified } = node.membership;
  const connected = new Set(node.swarm.connected());
  const lines = [...(certified?.members.certificates ?? [])].map((one) => lineOf(node, one, connected));
  return lines.toSorted((a, b) => a.site.localeCompare(b.site) || a.name.localeCompare(b.name));
}

/** The revocation is on disk, and on its way to all others, when it resolves. */
export async function revokeMember(node: MeshNode, { member, why }: OperationInput<'revoke'>): Promise<MemberLine> {
  const { membership, presence, identity } = node;
  const { certified } = membership;
  const issuer = certified?.issuer;
  if (certified === undefined || issuer === undefined || presence === undefined) throw noIssuer(node);
  const one = memberCalled(certified, member);
  if (one.peerId === identity.peerId) {
    const message = 'this is the node that would sign: revoke it from another that may admit';
    throw new OperationError('REFUSED', message);
  }
  const facts = { peerId: one.peerId, site: one.site, at: Math.floor(certified.now()), why };
  await presence.sync.say(revoke(facts, issuer.privateKey, certified.members.trust).bytes);
  return lineOf(node, one, new Set(node.swarm.connected()));
}

/** A member of the overlay alone, with keys that are made here and kept nowhere. Rejects with `OperationError`. */
export async function admitDevice(
  node: MeshNode,
  { name, site, endpoint, days = DEVICE_DAYS }: OperationInput<'overlayExport'>,
): Promise<DeviceResult> {
  const { membership, presence, overlay } = node;
  const { certified } = membership;
  const issuer = certified?.issuer;
  if (certified === undefined || issuer === undefined || presence === undefined) throw noIssuer(node);
  if (overlay === undefined)
    throw new OperationError('REFUSED', 'this node has no overlay: set `overlay.mode` to auto');
  const key = new SecretKey(encodeWireguardKey(newWireguardKey()));
  // Nobody ever has the private half: a device speaks WireGuard alone.
  const peerId = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString();
  const place = { name, site: site ?? issuer.site ?? node.site, roles: ['device'] as const };
  const certificate = membership.issue(issuer, { peerId, wireguardKey: key.publicKey(), ...place }, days);
  const network = overlay.networkOf(certificate, key, endpoint);
  if (network === undefined) {
    const advice = 'make one of a node that others reach (`bootmesh fleet renew NODE --roles gateway`)';
    throw new OperationError('REFUSED', `the fleet has no gateway for it to know: ${advice}`);
  }
  const configuration = formatNetwork(network);
  await presence.sync.say(certificate.bytes);
  const { address, notAfter } = certificate;
  return { name: certificate.name, peerId, site: certificate.site, address, notAfter: iso(notAfter), configuration };
}

/** Its next certificate is on disk, and on its way to all others, when it resolves. */
export async function renewMember(node: MeshNode, { member, roles }: OperationInput<'renew'>): Promise<MemberLine> {
  const { membership, presence, identity } = node;
  const { certified } = membership;
  const issuer = certified?.issuer;
  if (certified === undefined || issuer === undefined || presence === undefined) throw noIssuer(node);
  const one = memberCalled(certified, member ?? identity.peerId);
  const next = membership.renew(issuer, roles === undefined ? one : { ...one, roles: roles.map(roleOf) });
  await presence.sync.say(next.bytes);
  return lineOf(node, next, new Set(node.swarm.connected()));
}

function memberCalled({ members }: Certified, member: string): Certificate {
  const found = [...members.certificates].filter(({ peerId, name }) => peerId === member || name === member);
  const [one] = found;
  if (one === undefined) {
    throw new OperationError('NOT_FOUND', `nobody here is called ${member}: \`bootmesh fleet ls\` lists all members`);
  }
  if (found.length === 1) return one;
  const ids = found.map(({ peerId, site }) => `${peerId} (${site})`).join(', ');
  throw new OperationError('USAGE', `${found.length} members are called ${member}: say which by peer id: ${ids}`);
}

/** Rejects with `OperationError` where the fleet has no certificates. */
export async function exportCourier(
  node: MeshNode,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<CourierResult> {
  const { certified } = node.membership;
  if (certified === undefined || node.releases === undefined) throw noIssuer(node);
  const statements = [...certified.members.statements()];
  const bytes = writeCourier({ documents: node.releases.channels.documents, statements });
  await write(bytes);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { size: bytes.length, sha256, statements: statements.length };
}

/** Rejects with `CourierInvalid`, `FileUnusable` and `OperationError`. */
export async function importCourier(
  { membership, presence, releases }: MeshNode,
  file: string,
  { signal }: OperationOptions,
): Promise<CourierNews> {
  if (membership.certified === undefined || presence === undefined || releases === undefined) {
    throw new OperationError('REFUSED', 'this node has joined no fleet with certificates: join it first');
  }
  const bytes = await readGuarded(file, { maxBytes: MAX_COURIER_BYTES, secret: false });
  if (bytes === undefined) throw new OperationError('NOT_FOUND', `${file} does not exist: name a courier’s file`);
  const { documents, statements } = readCourier(bytes);
  // First who may admit, by which the rest is judged.
  const metadata = await releases.channels.take(documents, { signal });
  return { metadata, ...(await presence.sync.take(statements)) };
}

export function notRunning(data: string): OperationError {
  const advice = `start it with \`bootmesh up --data ${data}\``;
  return new OperationError('UNREACHABLE', `no agent is running on ${data}: ${advice}`);
}

function lineOf({ membership, identity }: MeshNode, one: Certificate, connected: ReadonlySet<string>): MemberLine {
  const { peerId, name, site, roles, address, issuer, since, notAfter } = one;
  const late = (membership.certified?.now() ?? 0) > notAfter;
  const state: MemberLine['state'] = membership.certified?.members.fault(peerId) ?? (late ? 'grace' : 'member');
  const facts = { peerId, name, site, roles, address, issuer, since: iso(since), notAfter: iso(notAfter), state };
  const revocation = membership.certified?.members.revocation(peerId);
  const revoked = revocation && revokedLine(revocation);
  return { ...facts, ...(revoked && { revoked }), connected: connected.has(peerId), self: peerId === identity.peerId };
}

function noIssuer({ identity, membership }: MeshNode): OperationError {
  const message =
    membership.certified === undefined
      ? 'this node’s fleet has no certificates: its members are those of its description'
      : `this node (${identity.peerId}) has no issuer's key: ask a node that has one (\`bootmesh fleet issuer add\` makes them)`;
  return new OperationError('REFUSED', message);
}

function roleOf(text: string): MemberRole {
  const role = MEMBER_ROLES.find((one) => one === text);
  if (role !== undefined) return role;
  throw new OperationError('USAGE', `${text} is no role: they are ${MEMBER_ROLES.join(', ')}`);
}

/** As far as there are names for days (ECMA-262, 21.4.1.1): what a revocation says is for people, and of any size. */
function iso(seconds: number): string {
  return new Date(Math.min(seconds * 1000, 8.64e15)).toISOString();
}
