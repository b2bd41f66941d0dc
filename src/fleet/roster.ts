import type { FleetDescription, FleetNode } from './description.ts';

export interface Member extends FleetNode {
  readonly name: string;
  readonly peerId: string;
}

/** The members of a fleet by peer id, as its description lists them; everyone else is a stranger. */
export class Roster {
  readonly members: readonly Member[];
  readonly #byPeerId: ReadonlyMap<string, Member>;
  readonly #byName: ReadonlyMap<string, Member>;

  /** Nodes without a peer id cannot prove who they are, and are no members yet. */
  constructor(description: Pick<FleetDescription, 'nodes'>) {
    this.members = Object.entries(description.nodes).flatMap(([name, { peerId, ...node }]) =>
      peerId === undefined ? [] : [{ ...node, name, peerId }],
    );
    this.#byPeerId = new Map(this.members.map((member) => [member.peerId, member]));
    this.#byName = new Map(this.members.map((member) => [member.name, member]));
  }

  /** The member with this peer id, or undefined for a stranger. */
  member(peerId: string): Member | undefined {
    return this.#byPeerId.get(peerId);
  }

  byName(name: string): Member | undefined {
    return this.#byName.get(name);
  }

  /**
   * Multiaddrs, each with `/p2p/<peerId>`, that `peerId` dials first: those of the fleet's origins and seeds, or of
   * all members when the description names neither.
   */
  bootstrap(peerId: string): string[] {
    const others = this.members.filter((member) => member.peerId !== peerId);
    const first = others.filter(({ roles }) => roles.includes('origin') || roles.includes('seed'));
    return (first.length > 0 ? first : others).flatMap(dialable);
  }
}

function dialable(member: Member): string[] {
  return member.addresses.map((address) => {
    return address.includes('/p2p/') ? address : `${address}/p2p/${member.peerId}`;
  });
}
