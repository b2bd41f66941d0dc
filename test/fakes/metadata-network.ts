import type { Hearing, MetadataNetwork } from '../../src/release/peer-questions.ts';

type Provider = (name: string, from: string) => Promise<Uint8Array | undefined>;
type Ask = (name: string, options: { signal: AbortSignal; maxBytes: number }) => Promise<Uint8Array | undefined>;

/** Members of one process. Two that are linked can ask each other; what one announces, all it is linked with hear. */
export class FakeNetwork {
  readonly nodes = new Map<string, FakeNode>();

  node(id: string): FakeNode {
    const node = new FakeNode(id, this);
    this.nodes.set(id, node);
    return node;
  }

  /** A peer that answers as `ask` says, whatever that is. */
  liar(id: string, ask: Ask): FakeNode {
    const node = this.node(id);
    node.answer = ask;
    return node;
  }

  link(...ids: readonly string[]): void {
    for (const a of ids) for (const b of ids) if (a !== b) this.nodes.get(a)?.links.add(b);
    for (const a of ids) for (const b of ids) if (a !== b) this.nodes.get(a)?.connected(b);
  }

  /** Only `from` sees `to`, and no event tells of it: for tests that ask by hand. */
  linkQuietly(from: string, ...to: readonly string[]): void {
    for (const id of to) if (id !== from) this.nodes.get(from)?.links.add(id);
  }
}

export class FakeNode implements MetadataNetwork {
  readonly id: string;
  readonly links = new Set<string>();
  readonly announced: Uint8Array[] = [];
  /** Names that this node was asked for, with who asked. */
  readonly asked: string[] = [];
  answer: Ask | undefined;
  readonly #network: FakeNetwork;
  readonly #providers = new Map<string, Provider>();
  readonly #subscribers = new Map<string, (bytes: Uint8Array, from: string) => Hearing>();
  #onConnect: ((peer: string) => void) | undefined;

  constructor(id: string, network: FakeNetwork) {
    this.id = id;
    this.#network = network;
  }

  peers(): string[] {
    return [...this.links];
  }

  async ask(peer: string, name: string, options: { signal: AbortSignal; maxBytes: number }) {
    const node = this.#network.nodes.get(peer);
    if (!this.links.has(peer) || node === undefined) throw new Error(`${peer} cannot be reached`);
    node.asked.push(name);
    if (node.answer !== undefined) return node.answer(name, options);
    const provider = [...node.#providers].find(([prefix]) => name.startsWith(prefix))?.[1];
    return provider?.(name, this.id);
  }

  serve(prefix: string, provider: Provider): void {
    this.#providers.set(prefix, provider);
  }

  async announce(topic: string, bytes: Uint8Array): Promise<void> {
    this.announced.push(bytes);
    for (const peer of this.links) this.#network.nodes.get(peer)?.hear(topic, bytes, this.id);
  }

  subscribe(topic: string, on: (bytes: Uint8Array, from: string) => Hearing): void {
    this.#subscribers.set(topic, on);
  }

  onConnect(on: (peer: string) => void): void {
    this.#onConnect = on;
  }

  connected(peer: string): void {
    this.#onConnect?.(peer);
  }

  hear(topic: string, bytes: Uint8Array, from: string): void {
    this.#subscribers.get(topic)?.(bytes, from);
  }

  /** As if `from` had gossiped `bytes` on every topic: what they were worth. */
  gossip(bytes: Uint8Array, from: string): Hearing[] {
    return [...this.#subscribers.values()].map((on) => on(bytes, from));
  }
}
