import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { dirname, join as path } from 'node:path';
import { type DoorFacts, type KnockOptions, knock } from '../admission/knock.ts';
import { machineIds } from '../admission/machine.ts';
import { AdmissionRefused } from '../admission/refusal.ts';
import { durableDisk } from '../disk/durable-file.ts';
import { readGuarded } from '../disk/guarded-file.ts';
import type { Certificate } from '../fleet/certificate.ts';
import { loadIdentity } from '../fleet/identity.ts';
import { MemberStore } from '../fleet/member-store.ts';
import { Members } from '../fleet/members.ts';
import { StatementRefused } from '../fleet/statement.ts';
import { readTrustList } from '../fleet/trust-list.ts';
import { loadWireguardKey } from '../fleet/wireguard-key.ts';
import type { Log } from '../observe/log.ts';
import { DOCUMENT_BYTES, type ReadDocument, TIMESTAMP } from '../release/document.ts';
import { Ledger } from '../release/ledger.ts';
import { fleetOf } from '../release/trust-root.ts';
import { FleetClock } from './fleet-clock.ts';
import { fleetFiles } from './membership.ts';

export interface Joined {
  readonly fleet: string;
  readonly certificate: Certificate;
}

/**
 * Joins the fleet behind a door, on a machine whose agent does not run; the agent starts as a member from then on.
 * Of an unfinished attempt only the machine's own keys and the fleet's signed metadata are left. Rejects with
 * `AdmissionRefused`.
 */
export async function join(
  data: string,
  door: DoorFacts,
  { name, log, ...options }: KnockOptions & { readonly name: string; readonly log: Log },
): Promise<Joined> {
  const { signal } = options;
  await mkdir(data, { recursive: true, mode: 0o700 });
  await refuseOtherFleet(data, door);
  const identity = await loadIdentity(data);
  const wireguardKey = await loadWireguardKey(data);
  const admission = await knock(
    { door, privateKey: identity.privateKey, wireguardKey, name, machine: await machineIds() },
    options,
  );
  const root = Buffer.from(admission.root);
  const { statements, documents } = admission;
  const read = async (document: string) => documents.get(document);
  const certificate = await settle(data, identity.peerId, { root, statements, read }, { log, signal });
  return { fleet: fleetOf(root).fleet, certificate };
}

/** What a new member is given. */
export interface Welcome {
  readonly root: Buffer;
  /** All that is known of who belongs to the fleet, its own certificate among it. */
  readonly statements: Iterable<Uint8Array>;
  /** Of the fleet's signed metadata, by TUF's names. */
  readonly read: ReadDocument;
}

/**
 * Leaves in a data directory what makes its machine a member: all of it, once it is sure that the fleet's own keys and an
 * issuer of theirs say so. Rejects with `AdmissionRefused`.
 */
export async function settle(
  data: string,
  peerId: string,
  { root, statements, read }: Welcome,
  { log, signal }: { readonly log: Log; readonly signal: AbortSignal },
): Promise<Certificate> {
  const files = fleetFiles(data);
  await using clock = await FleetClock.open(files.clock, { log });
  const trust = await believe(data, root, read, { log, signal, clock });
  const now = () => clock.now() / 1000;
  const members = new Members({ trust: readTrustList(trust), now, signed: (at) => clock.signed(at * 1000) });
  const store = new MemberStore(files.members, { log });
  // Who joins again forgets nothing, least of all who was revoked.
  for (const bytes of [...(await store.read()), ...statements]) hear(members, bytes, log);
  const certificate = members.member(peerId);
  if (certificate === undefined) {
    const why = members.fault(peerId) ?? 'not there';
    throw new AdmissionRefused(
      'malformed',
      `the issuer answered, but this machine's certificate is ${why}: see its log`,
    );
  }
  await mkdir(dirname(files.root), { recursive: true, mode: 0o700 });
  store.keep(() => members.statements());
  await store.flush();
  await durableDisk.replace(files.root, root);
  return certificate;
}

async function refuseOtherFleet(data: string, { rootDigest }: DoorFacts): Promise<void> {
  const { root } = fleetFiles(data);
  const bytes = await readGuarded(root, { maxBytes: DOCUMENT_BYTES.root, secret: false });
  if (bytes === undefined || createHash('sha256').update(bytes).digest('hex') === rootDigest) return;
  const advice = `to leave it, move ${dirname(root)} away; or join from another data directory (--data)`;
  throw new AdmissionRefused('fleet', `this machine belongs to fleet ${fleetOf(bytes).fleet} already: ${advice}`);
}

/** The fleet's trust list, once the metadata verifies from the root; kept where the agent looks for it. */
async function believe(
  data: string,
  root: Buffer,
  read: ReadDocument,
  { log, signal, clock }: { readonly log: Log; readonly signal: AbortSignal; readonly clock: FleetClock },
): Promise<unknown> {
  const ledger = await Ledger.open({ log, clock }, { directory: path(data, 'release'), trustRoot: root });
  const timestamp = Buffer.from((await read(TIMESTAMP, DOCUMENT_BYTES.timestamp)) ?? []);
  try {
    if (ledger.compare(timestamp) === 'newer') {
      await ledger.advance(timestamp, read, signal);
    }
  } catch (cause) {
    const advice = 'is the agent that gave out the token up to date, and this machine’s clock right?';
    const message = `the fleet's signed metadata does not verify (${(cause as Error).message}): ${advice}`;
    throw new AdmissionRefused('malformed', message, { cause });
  }
  if (ledger.trust !== undefined) return ledger.trust;
  throw new AdmissionRefused(
    'malformed',
    'the fleet’s signed metadata names nobody who may admit: see the issuer’s log',
  );
}

function hear(members: Members, bytes: Uint8Array, log: Log): void {
  try {
    members.hear(bytes);
  } catch (error) {
    if (!(error instanceof StatementRefused)) throw error;
    log.debug('a statement of the welcome does not count', { reason: error.reason, error });
  }
}
