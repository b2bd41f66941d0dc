import { type Admission, type Applicant, Door, type DoorOptions } from '../admission/door.ts';
import { type InvitationFacts, Invitations } from '../admission/invitations.ts';
import { AdmissionRefused } from '../admission/refusal.ts';
import { type Approval, type PendingRequest, Requests } from '../admission/requests.ts';
import { type Token, writeToken } from '../admission/token.ts';
import type { Identity } from '../fleet/identity.ts';
import { StatementRefused } from '../fleet/statement.ts';
import type { AllowedMachine, MemberRole } from '../fleet/trust-list.ts';
import type { Log } from '../observe/log.ts';
import type { Certified, Membership, OwnIssuer } from './membership.ts';

interface Deps {
  readonly membership: Membership;
  readonly certified: Certified;
  readonly issuer: OwnIssuer;
  readonly identity: Identity;
  /** The fleet's root.json, and its hex sha256. */
  readonly root: { readonly bytes: Uint8Array; readonly digest: string };
  /** The fleet's signed metadata, all of it: a newcomer believes by it who may admit, and runs the same releases. */
  documents(): ReadonlyMap<string, Uint8Array>;
  /** Makes a statement known; on disk when it resolves. */
  say(bytes: Uint8Array): Promise<void>;
  readonly log: Log;
}

export interface Invited {
  readonly token: string;
  readonly addresses: readonly string[];
}

export interface ReceptionOptions extends Pick<DoorOptions, 'listen'> {
  /** Machines without a token may ask, and wait for an operator. */
  readonly requests: boolean;
}

/** Who is to be let in, and as what. */
interface Grant extends Approval {
  /** Life of its certificate, days. @default that of all */
  readonly days?: number;
}

/**
 * Machines that are known by their hardware have new keys after each start, and somebody else on the segment may say that
 * it is one of them: what they get is over soon. Days.
 */
const ALLOWED_DAYS = 1;
/** Members that a newcomer is told of at once; it hears of the rest from them. */
const INTRODUCED = 32;
const LOOK_MS = 10_000;

/** On a node that admits: invites and approves, and keeps the door open as long as somebody may come. */
export class Reception implements AsyncDisposable {
  readonly #deps: Deps;
  readonly #invitations: Invitations;
  readonly #requests = new Requests();
  readonly #options: ReceptionOptions;
  readonly #timer: NodeJS.Timeout;
  #door: Door | undefined;
  /** The door tells the segment where it is. */
  #announced = false;
  #opening: Promise<unknown> = Promise.resolve();

  private constructor(deps: Deps, invitations: Invitations, options: ReceptionOptions) {
    this.#deps = deps;
    this.#invitations = invitations;
    this.#options = options;
    this.#timer = setInterval(() => void this.#keepDoor().catch(() => undefined), LOOK_MS).unref();
  }

  /** Rejects with `FileUnusable`. A door that cannot be opened is told in the log, and tried again. */
  static async open(deps: Deps, file: string, options: ReceptionOptions): Promise<Reception> {
    const reception = new Reception(deps, await Invitations.open(file), options);
    await reception.#keepDoor().catch((error: unknown) => deps.log.error('the door cannot be opened', { error }));
    return reception;
  }

  /** Rejects with `AdmissionRefused`, `StatementRefused` when this issuer may not, and when the door cannot be opened. */
  async invite(facts: InvitationFacts & { readonly roles: readonly MemberRole[] }): Promise<Invited> {
    const { root, identity, certified } = this.#deps;
    this.#check(facts);
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

  /** Machines that wait to be approved. */
  pending(): PendingRequest[] {
    return this.#requests.list(this.#deps.certified.now() * 1000);
  }

  /** Lets in a machine that waits, by peer id or name; undefined when none does. Throws `StatementRefused`. */
  approve(peer: string, approval: Approval & { readonly roles: readonly MemberRole[] }): PendingRequest | undefined {
    const found = this.#requests.find(peer, this.#deps.certified.now() * 1000);
    if (found === undefined) return undefined;
    this.#check(approval);
    this.#requests.approve(found, approval, this.#deps.certified.now() * 1000);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#opening.catch(() => undefined);
    await this.#door?.[Symbol.asyncDispose]();
  }

  /** Signed and thrown away: what cannot be certified is not promised. Throws `StatementRefused`. */
  #check({ site, roles }: { readonly site: string; readonly roles: readonly MemberRole[] }): void {
    const { issuer, identity, certified, membership } = this.#deps;
    const { publicKey: wireguardKey } = certified.wireguardKey;
    membership.issue(issuer, { peerId: identity.peerId, wireguardKey, name: 'someone', site, roles });
  }

  /** Open while it is needed. */
  async #keepDoor(): Promise<Door | undefined> {
    const turn = this.#opening.then(async () => {
      const anybody = this.#options.requests || this.#allowed().length > 0;
      const wanted = anybody || this.#invitations.openUntil(this.#deps.certified.now()) !== undefined;
      if (!wanted || anybody !== this.#announced) await this.#closeDoor();
      if (wanted) this.#door ??= await this.#openDoor(anybody);
      return this.#door;
    });
    this.#opening = turn.catch(() => undefined);
    return await turn;
  }

  async #openDoor(announce: boolean): Promise<Door> {
    const { identity, certified, log } = this.#deps;
    const consider = (applicant: Applicant) => this.#consider(applicant);
    const admit = (applicant: Applicant) => this.#admit(applicant);
    const door = await Door.open(
      { privateKey: identity.privateKey, log, consider, admit, now: () => certified.now() * 1000 },
      { listen: this.#options.listen, announce },
    );
    this.#announced = announce;
    log.info('the door is open', { addresses: door.addresses(), announced: announce });
    return door;
  }

  async #closeDoor(): Promise<void> {
    const door = this.#door;
    this.#door = undefined;
    await door?.[Symbol.asyncDispose]();
  }

  /** Machines of the fleet's allow-list that this issuer may admit. */
  #allowed(): readonly AllowedMachine[] {
    const { certified, issuer } = this.#deps;
    const all = certified.members.trust.allow ?? [];
    return issuer.site === undefined ? all : all.filter(({ site }) => site === issuer.site);
  }

  #consider(applicant: Applicant): void {
    const { certified } = this.#deps;
    const { secret, peerId } = applicant;
    if (certified.members.fault(peerId) === 'revoked') {
      const advice = 'its key is never admitted again: move its identity.key away to give it a new one, and try again';
      throw new AdmissionRefused('revoked', `this machine (${peerId}) was revoked; ${advice}`);
    }
    if (secret.length > 0) this.#invitations.find(secret, applicant);
    else this.#withoutToken(applicant);
  }

  /** Throws `AdmissionRefused` unless the machine is on the fleet's list, or an operator has approved it. */
  #withoutToken(applicant: Applicant): Grant {
    const known = this.#allowed().find(({ machine }) => applicant.machine.includes(machine));
    if (known !== undefined) return { ...known, days: ALLOWED_DAYS };
    if (this.#options.requests) return this.#requests.approvalOf(applicant, this.#deps.certified.now() * 1000);
    const ids = applicant.machine.join(', ') || 'nothing that it could be known by';
    const advice = 'ask for one (`bootmesh fleet invite`), or have it put on the list (`bootmesh fleet allow`)';
    throw new AdmissionRefused(
      'token',
      `no machine is let in here without a token, and this one has ${ids}: ${advice}`,
    );
  }

  async #grantTo(applicant: Applicant): Promise<Grant> {
    const { secret } = applicant;
    if (secret.length === 0) return this.#withoutToken(applicant);
    return await this.#invitations.redeem(secret, applicant, this.#deps.certified.now());
  }

  async #admit(applicant: Applicant): Promise<Admission> {
    this.#consider(applicant);
    const { certified, membership, issuer, root, documents, say } = this.#deps;
    const { peerId, wireguardKey } = applicant;
    const { site, days, name = applicant.name, ...grant } = await this.#grantTo(applicant);
    const roles = grant.roles as readonly MemberRole[];
    const current = certified.members.member(peerId);
    const same = current?.wireguardKey === wireguardKey && current.site === site;
    const certificate = same ? current : membership.issue(issuer, { peerId, wireguardKey, name, site, roles }, days);
    await say(certificate.bytes);
    const fault = certified.members.fault(peerId);
    if (fault !== undefined) throw refusalFor(fault, applicant);
    this.#requests.admitted(peerId);
    return {
      root: root.bytes,
      documents: documents(),
      statements: [certificate.bytes, ...this.#introduce(site, peerId)],
    };
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
