import type { Nat } from '../fleet/description.ts';
import { command } from '../host/command.ts';
import type { Namespace } from './namespace.ts';

/** Sites between which no packet passes: two that do not reach each other, or one that reaches nobody. */
export type Cut = readonly string[];

/**
 * A NAT as most sites have one, pure; for nft. What goes out through `wan` has its address, and what nobody asked for
 * stays out. It is dropped on its way in also where it is for the router itself: else the router would remember it, and
 * what is sent from inside to the same place later would get another port than the one that was told.
 */
export function natRules(wan: string, ports: Nat): string {
  return `table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "${wan}" masquerade${ports === 'random' ? ' fully-random' : ''}
  }
}
table inet filter {
  chain input {
    type filter hook input priority filter;
    iifname "${wan}" ct state new drop
  }
  chain forward {
    type filter hook forward priority filter;
    iifname "${wan}" ct state new drop
  }
}
`;
}

/** The switch of the WAN with these cuts and no others, pure; for nft, which changes from one to the next at once. */
export function cutRules(cuts: Iterable<Cut>, portOf: (site: string) => string): string {
  const drop = (from: string | undefined, to: string | undefined) => {
    const [iif, oif] = [from && `iifname "${portOf(from)}" `, to && `oifname "${portOf(to)}" `];
    return `    ${iif ?? ''}${oif ?? ''}drop`;
  };
  const rules = [...cuts].flatMap(([site, other]) => [drop(site, other), drop(other, site)]);
  return `table bridge cuts {
}
delete table bridge cuts
table bridge cuts {
  chain forward {
    type filter hook forward priority filter;
${rules.map((rule) => `${rule}\n`).join('')}  }
}
`;
}

/** Rejects with `CommandFailed`. */
export async function applyRules(namespace: Namespace, rules: string): Promise<void> {
  await command(['ip', 'netns', 'exec', namespace.name, 'nft', '-f', '-'], { input: rules });
}

/** What does not pass the switch of the WAN. */
export class Firewall {
  readonly #wan: Namespace;
  readonly #portOf: (site: string) => string;
  #cuts: readonly Cut[] = [];
  #turns: Promise<unknown> = Promise.resolve();

  /** @param portOf the switch's port to a site */
  constructor(wan: Namespace, portOf: (site: string) => string) {
    this.#wan = wan;
    this.#portOf = portOf;
  }

  get cuts(): readonly Cut[] {
    return this.#cuts;
  }

  /** Adds a cut; one that is there already is left alone. Rejects with `CommandFailed`. */
  async cut(site: string, other?: string): Promise<void> {
    const added: Cut = other === undefined ? [site] : [site, other].toSorted();
    await this.#change((cuts) => (cuts.some((one) => one.join(' ') === added.join(' ')) ? cuts : [...cuts, added]));
  }

  /** Rejects with `CommandFailed`. */
  async mend(): Promise<void> {
    await this.#change(() => []);
  }

  async #change(change: (cuts: readonly Cut[]) => readonly Cut[]): Promise<void> {
    const done = this.#turns.then(async () => {
      const cuts = change(this.#cuts);
      await applyRules(this.#wan, cutRules(cuts, this.#portOf));
      this.#cuts = cuts;
    });
    this.#turns = done.catch(() => undefined);
    await done;
  }
}
