import type { ChildProcess } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { BootStatus } from '../../src/boot/boot.ts';
import type { BootOptions } from '../../src/boot/options.ts';
import { type DhcpPacket, decodeDhcp } from '../../src/dhcp/packet.ts';
import { connect, createNamespace, type Namespace } from '../../src/lab/namespace.ts';
import { AGENT_ENV, AGENT_FLAGS } from '../../src/launch/agent-process.js';
import type { Ask } from './asker-program.ts';
import type { NodeDescription } from './node-program.ts';

const PROGRAM = fileURLToPath(new URL('node-program.ts', import.meta.url));
const ASKER = fileURLToPath(new URL('asker-program.ts', import.meta.url));

/** Sends datagrams from a namespace's port 68 side, and returns the DHCP replies that arrive meanwhile. */
export async function ask(namespace: Namespace, asks: readonly Ask[]): Promise<{ from: string; packet: DhcpPacket }[]> {
  const child = namespace.spawn([process.execPath, ASKER], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin?.end(JSON.stringify(asks));
  const [stdout] = await Promise.all([text(child.stdout as Readable), once(child, 'exit')]);
  const lines = stdout.split('\n').filter(Boolean);
  return lines.map((line) => {
    const { from, hex } = JSON.parse(line) as { from: string; hex: string };
    return { from, packet: decodeDhcp(Buffer.from(hex, 'hex')) };
  });
}

interface Message {
  readonly ready?: boolean;
  readonly requested?: string;
  readonly status?: BootStatus;
  readonly rss?: number;
}

/** A boot node that runs in a namespace of its own. */
export class SegmentNode {
  readonly name: string;
  readonly address: string;
  readonly namespace: Namespace;
  /** Paths that its HTTP server was asked for. */
  readonly requested: string[] = [];
  readonly #child: ChildProcess;

  constructor(name: string, address: string, namespace: Namespace, child: ChildProcess) {
    this.name = name;
    this.address = address;
    this.namespace = namespace;
    this.#child = child;
    child.on('message', (message: Message) => {
      if (message.requested !== undefined) this.requested.push(message.requested);
    });
  }

  async ask(): Promise<{ status: BootStatus; rss: number }> {
    const answer = new Promise<Message>((resolve) => {
      const hear = (message: Message) => {
        if (message.status === undefined) return;
        this.#child.off('message', hear);
        resolve(message);
      };
      this.#child.on('message', hear);
    });
    this.#child.send('status');
    const { status, rss } = await answer;
    if (status === undefined || rss === undefined) throw new Error('no status');
    return { status, rss };
  }

  async status(): Promise<BootStatus> {
    return (await this.ask()).status;
  }

  /** Asks until the status fits. */
  async until(fits: (status: BootStatus) => boolean, { timeoutMs = 10_000 } = {}): Promise<BootStatus> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const status = await this.status();
      if (fits(status)) return status;
      if (performance.now() > end) throw new Error(`${this.name} never came to it: ${JSON.stringify(status, null, 1)}`);
      await delay(50);
    }
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }

  /** An orderly end; resolves to the exit code. */
  async stop(): Promise<number | null> {
    const exit = once(this.#child, 'exit');
    this.#child.disconnect();
    const [code] = await exit;
    return code as number | null;
  }
}

/** One switch, and what is plugged into it; 10.66.0.0/24. Disposing removes all of it, after failures as well. */
export class SegmentLab implements AsyncDisposable {
  readonly switch: Namespace;
  readonly directory: string;
  readonly #stack: AsyncDisposableStack;
  readonly #prefix: string;
  readonly #keys = new Map<string, { privateKey: string; publicKey: string }>();
  #cables = 0;

  private constructor(prefix: string, bridge: Namespace, directory: string, stack: AsyncDisposableStack) {
    this.#prefix = prefix;
    this.switch = bridge;
    this.directory = directory;
    this.#stack = stack;
  }

  /** `members` are the names of nodes that will belong to the fleet. */
  static async create(members: readonly string[]): Promise<SegmentLab> {
    const prefix = `bm-${process.pid.toString(36)}${Math.random().toString(36).slice(2, 5)}`;
    await using stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), 'bm-boot-'));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const bridge = stack.use(await createNamespace(`${prefix}-sw`));
    await bridge.addBridge('br0');
    const lab = new SegmentLab(prefix, bridge, directory, stack.move());
    for (const member of members) {
      const pair = generateKeyPairSync('ed25519', {
        publicKeyEncoding: { type: 'spki', format: 'pem' },
        privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
      });
      lab.#keys.set(member, pair);
    }
    return lab;
  }

  /** A namespace with one cable (`eth0`) to the switch, which forwards when this resolves. */
  async plug(name: string, options: { addresses?: readonly string[]; mac?: string } = {}): Promise<Namespace> {
    const namespace = this.#stack.use(await createNamespace(`${this.#prefix}-${name}`));
    this.#cables += 1;
    const port = `p${this.#cables}`;
    await connect(
      { namespace, interface: 'eth0', ...options },
      { namespace: this.switch, interface: port, bridge: 'br0' },
    );
    // The kernel may take a second to notice that the cable is in (net/core/link_watch.c).
    while (!(await this.#forwards(port))) await delay(20);
    return namespace;
  }

  async #forwards(port: string): Promise<boolean> {
    const { stdout } = await this.switch.run(['cat', `/sys/class/net/${port}/brport/state`]);
    return stdout.trim() === '3'; // BR_STATE_FORWARDING of linux/if_bridge.h
  }

  /** Starts a node with `10.66.0.<host>`, and waits until it runs. */
  async node(
    name: string,
    host: number,
    options: Partial<BootOptions>,
    extra: Partial<Pick<NodeDescription, 'release' | 'logLevel'>> & {
      namespace?: Namespace;
      v6only?: boolean;
      /** Without any right over the network. */
      powerless?: boolean;
    } = {
      release: { version: 1, commandLine: 'console=ttyS0' },
    },
  ): Promise<SegmentNode> {
    const address = `10.66.0.${host}`;
    const addresses = extra.v6only ? [`fd66::${host}/64`] : [`${address}/24`];
    const namespace = extra.namespace ?? (await this.plug(name, { addresses }));
    const description: NodeDescription = {
      name,
      dataDirectory: join(this.directory, name),
      options: { mode: 'server', interface: 'eth0', channel: 'production', discoveryMs: 300, ...options },
      privateKey: this.#keys.get(name)?.privateKey ?? newKey(),
      members: Object.fromEntries([...this.#keys].map(([member, { publicKey }]) => [member, publicKey])),
      ...(extra.release === undefined ? {} : { release: extra.release }),
      ...(extra.logLevel === undefined ? {} : { logLevel: extra.logLevel }),
    };
    // Files stay within reach, wherever the project lies: /root and most homes are closed to everybody else.
    const powerless = ['setpriv', '--bounding-set', '-all,+dac_override', '--inh-caps', '-all'];
    const child = namespace.spawn([...(extra.powerless ? powerless : []), process.execPath, ...AGENT_FLAGS, PROGRAM], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, ...AGENT_ENV, BOOT_NODE: JSON.stringify(description) },
    });
    this.#stack.defer(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    const node = new SegmentNode(name, address, namespace, child);
    const [message] = (await once(child, 'message')) as [Message];
    if (message.ready !== true) throw new Error(`${name} did not start`);
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

function newKey(): string {
  return generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}
