import { type Admission, type Applicant, Door, type DoorOptions } from '../admission/door.ts';
import { type InvitationFacts, Invitations } from '../admission/invitations.ts';
import { AdmissionRefused } from '../admission/refusal.ts';
import { type Token, writeToken } from '../admission/token.ts';
import type { Identity } from '../fleet/identity.ts';
import { StatementRefused } from '../fleet/statement.ts';
import type { MemberRole } from '../fleet/trust-list.ts';
import type { Log } from '../observe/log.ts';
import type { Certified, Membership, OwnIssuer } from './membership.ts';

interface Deps {
  readonly membership: Membership;
  readonly certified: Certified;
  readonly issuer: OwnIssuer;
  readonly identity: Identity;
  /** The fleet's root.json, and its hex sha256. */
  readonly root: { readonly bytes: Uint8Array; readonly digest: string };
  /** The signed metadata by which another node comes to believe who may admit. */
  proof(): ReadonlyMap<string, Uint8Array>;
  /** Makes a statement known; on disk when it resolves. */
  say(bytes: Uint8Array): Promise<void>;
  readonly log: Log;
}

export interface Invited {
  readonly token: string;
  readonly addresses: readonly string[];
}

/** Members that a newcomer is told of at once; it hears of the rest from them. */
const INTRODUCED = 32;
const LOOK_MS = 10_000;

/** On a node that admits: invites, and keeps the door open as long as somebody who was invited may come. */
export class Reception implements AsyncDisposable {
  readonly #deps: Deps;
  readonly #invitations: Invitations;
  readonly #options: Partial<DoorOptions>;
  readonly #timer: NodeJS.Timeout;
  #door: Door | undefined;
  #opening: Promise<unknown> = Promise.resolve();

  private constructor(deps: Deps, invitations: Invitations, options: Partial<DoorOptions>) {
    this.#deps = deps;
    this.#invitations = invitations;
    this.#options = options;
    this.#timer = setInterval(() => void this.#keepDoor().catch(() => undefined), LOOK_MS).unref();
  }

  /** Rejects with `FileUnusable`. A door that cannot be opened is told in the log, and tried again. */
  static async open(deps: Deps, file: string, options: Partial<DoorOptions>): Promise<Reception> {
    const reception = new Reception(deps, await Invitations.open(file), options);
    await reception.#keepDoor().catch((error: unknown) => deps.log.error('the door cannot be opened', { error }));
    return reception;
  }

  /** Rejects with `AdmissionRefused`, `StatementRefused` when this issuer may not, and when the door cannot be opened. */
  async invite(facts: InvitationFacts & { readonly roles: readonly MemberRole[] }): Promise<Invited> {
    const { issuer, root, identity, certified, membership } = this.#deps;
    // Signed and thrown away: what cannot be certified is not promised.
    const someone = { peerId: identity.peerId, wireguardKey: certified.wireguardKey.publicKey, name: 'someone' };
    membership.issue(issuer, { ...someone, site: facts.site, roles: facts.roles });
    const secret = await this.#invitations.invite(facts, certified.now());
    const door = await this.#keepDoor();
    const addresses = door?.addresses() ?? [];
    const token: Token = {
      rootDigest: root.digest,
      peerId: identity.peerId,
      addresses,
      secret,
      notAfter: facts.notAfter,
    };
    return { token: writeToken(token), addresses };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#opening.catch(() => undefined);
    await this.#door?.[Symbol.asyncDispose]();
  }

  /** Open while it is needed. */
  async #keepDoor(): Promise<Door | undefined> {
    const turn = this.#opening.then(async () => {
      const wanted = this.#invitations.openUntil(this.#deps.certified.now()) !== undefined;
      if (wanted) this.#door ??= await this.#openDoor();
      else await this.#closeDoor();
      return this.#door;
    });
    this.#opening = turn.catch(() => undefined);
    return await turn;
  }

  async #openDoor(): Promise<Door> {
    const { identity, log } = this.#deps;
    const consider = (applicant: Applicant) => this.#consider(applicant);
    const admit = (applicant: Applicant) => this.#admit(applicant);
    const door = await Door.open({ privateKey: identity.privateKey, log, consider, admit }, this.#options);
    log.info('the door is open: somebody is invited', { addresses: door.addresses() });
    return door;
  }

  async #closeDoor(): Promise<void> {
    const door = this.#door;
    this.#door = undefined;
    await door?.[Symbol.asyncDispose]();
  }

  #consider({ secret, peerId }: Applicant): void {
    const { certified } = this.#deps;
    this.#invitations.find(secret);
    if (certified.members.fault(peerId) !== 'revoked') return;
    const advice = 'its key is never admitted again: move its identity.key away to give it a new one, and try again';
    throw new AdmissionRefused('revoked', `this machine (${peerId}) was revoked; ${advice}`);
  }

  async #admit(applicant: Applicant): Promise<Admission> {
    this.#consider(applicant);
    const { certified, membership, issuer, root, proof, say } = this.#deps;
    const { peerId, wireguardKey, secret } = applicant;
    const invitation = await this.#invitations.redeem(secret, peerId, certified.now());
    const { site } = invitation;
    const roles = invitation.roles as readonly MemberRole[];
    const name = invitation.name ?? applicant.name;
    const current = certified.members.member(peerId);
    const same = current?.wireguardKey === wireguardKey && current.site === site;
    const certificate = same ? current : membership.issue(issuer, { peerId, wireguardKey, name, site, roles });
    await say(certificate.bytes);
    const fault = certified.members.fault(peerId);
    if (fault !== undefined) throw refusalFor(fault, applicant);
    return { root: root.bytes, documents: proof(), statements: [certificate.bytes, ...this.#introduce(site, peerId)] };
  }

  /** This node first, then others of the newcomer's site. */
  *#introduce(site: string, newcomer: string): Iterable<Uint8Array> {
    const { members } = this.#deps.certified;
    const own = this.#deps.identity.peerId;
    const first = (peerId: string, ofSite: string) => (peerId === own ? 0 : ofSite === site ? 1 : 2);
    const others = members.members.filter(({ peerId }) => peerId !== newcomer && members.binding(peerId) !== undefined);
    const ranked = others.toSorted((a, b) => first(a.peerId, a.site) - first(b.peerId, b.site));
    for (const { peerId, bytes } of ranked.slice(0, INTRODUCED)) {
      yield bytes;
      yield members.binding(peerId)?.bytes ?? bytes;
    }
  }
}

function refusalFor(fault: string, { wireguardKey }: Applicant): Error {
  if (fault !== 'taken') return new StatementRefused('lifetime', `the certificate that was just made is ${fault}`);
  const advice = 'it was copied from there; move wireguard.key away to make a new one, and try again';
  return new AdmissionRefused('proof', `the WireGuard key ${wireguardKey} is that of another member: ${advice}`);
}
