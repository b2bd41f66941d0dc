import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type AdminClient, connectAdmin } from '../../src/admin/admin-client.ts';
import { importArtifact } from '../../src/agent/import-artifact.ts';
import { connect, createNamespace, type Namespace } from '../../src/lab/namespace.ts';
import { readCounter, shape } from '../../src/lab/shaping.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';

export interface PairPlan {
  readonly directory: string;
  /** Of the link of the member that strangers knock at, bits per second, each way. */
  readonly rate: number;
  /** The file that one has and the other gets. */
  readonly payload: string;
}

/** An agent of the scene. */
interface Agent {
  readonly process: ChildProcess;
  readonly admin: AdminClient;
}

export const HOST = '10.77.7.1';
export const STRANGERS = '10.88';
const LAUNCHER = fileURLToPath(new URL('../../src/launch/launch.js', import.meta.url));
const START_MS = 60_000;
const COPY_MS = 240_000;

/**
 * Two members of one fleet, as `bootmesh up` and `bootmesh join` make them, and a machine of strangers, on one switch.
 * The first one's link is held to a rate, and has the payload; the strangers come by the same link. Disposing ends and
 * removes all of it.
 */
export class Pair implements AsyncDisposable {
  /** A namespace for the strangers, which have all addresses of `STRANGERS`. */
  readonly outside: Namespace;
  readonly #host: Agent;
  #guest: Agent;
  readonly #startGuest: () => Promise<Agent>;
  readonly #cid: string;
  readonly #link: { readonly inside: Namespace; readonly hub: Namespace };
  readonly #stack: AsyncDisposableStack;

  private constructor(facts: {
    outside: Namespace;
    host: Agent;
    guest: Agent;
    startGuest: () => Promise<Agent>;
    cid: string;
    link: { inside: Namespace; hub: Namespace };
    stack: AsyncDisposableStack;
  }) {
    this.outside = facts.outside;
    this.#host = facts.host;
    this.#guest = facts.guest;
    this.#startGuest = facts.startGuest;
    this.#cid = facts.cid;
    this.#link = facts.link;
    this.#stack = facts.stack;
  }

  static async open({ directory, rate, payload }: PairPlan, { signal }: { signal: AbortSignal }): Promise<Pair> {
    await using stack = new AsyncDisposableStack();
    const named = async (name: string) => stack.use(await createNamespace(`bm-knock${process.pid}-${name}`));
    const [hub, inside, guestAt, outside] = [
      await named('switch'),
      await named('host'),
      await named('guest'),
      await named('outside'),
    ];
    await hub.addBridge('br0');
    for (const [index, namespace] of [inside, guestAt, outside].entries()) {
      const end = { namespace, interface: 'eth0', addresses: [`10.77.7.${index + 1}/24`] };
      await connect(end, { namespace: hub, interface: `port${index}`, bridge: 'br0' });
      // Multicast needs a way to anywhere.
      await namespace.addRoute('default', '10.77.7.254');
    }
    await shape(inside, 'eth0', rate);
    await shape(hub, 'port0', rate);
    // All of them are one machine's, and no two are one address's.
    await outside.ip('route', 'add', 'local', `${STRANGERS}.0.0/16`, 'dev', 'lo');
    await inside.addRoute(`${STRANGERS}.0.0/16`, '10.77.7.3');

    const data = (name: string) => join(directory, name);
    const cid = await hold(payload, data('host'), signal);
    // Whoever still runs in a namespace ends with it.
    const start = (namespace: Namespace, name: string) => startAgent(namespace, data(name), signal);
    const host = await start(inside, 'host');
    await host.admin.pin({ cid, name: 'payload' }, { signal });
    const { token } = await host.admin.invite({}, { signal });
    await runCli(guestAt, data('guest'), ['join', token, '--name', 'guest'], signal);
    const startGuest = async () => {
      // What was evicted a moment ago is still there, and in memory.
      await rm(join(data('guest'), 'store'), { recursive: true, force: true });
      return await start(guestAt, 'guest');
    };
    const guest = await startGuest();
    await met([host, guest], signal);
    // The door is open while somebody may come.
    await host.admin.invite({}, { signal });
    return new Pair({ outside, host, guest, startGuest, cid, link: { inside, hub }, stack: stack.move() });
  }

  /** Of the agent that is knocked at. */
  get pid(): number {
    return this.#host.process.pid ?? 0;
  }

  /** The guest has nothing of the payload, and both are connected. */
  async clear(signal: AbortSignal): Promise<void> {
    await end(this.#guest.process);
    this.#guest = await this.#startGuest();
    await met([this.#host, this.#guest], signal);
  }

  /** Seconds that the guest takes for its copy, on its disk at the end. */
  async copy(signal: AbortSignal): Promise<number> {
    const limit = { signal: AbortSignal.any([signal, AbortSignal.timeout(COPY_MS)]) };
    const from = performance.now();
    await this.#guest.admin.pin({ cid: this.#cid, name: 'payload' }, limit);
    return (performance.now() - from) / 1000;
  }

  /** Whether the two are connected. */
  async areConnected(signal: AbortSignal): Promise<boolean> {
    return (await this.#host.admin.status({}, { signal })).peersConnected > 0;
  }

  /** Bytes that the link has carried since the scene was opened, each way. */
  async carried(): Promise<{ readonly out: number; readonly in: number }> {
    const [out, into] = await Promise.all([
      readCounter(this.#link.inside, 'eth0'),
      readCounter(this.#link.hub, 'port0'),
    ]);
    return { out: out.bytes, in: into.bytes };
  }

  /** Connections that the member's kernel has accepted, and answers that nothing listens, since the scene was opened. */
  async arrived(): Promise<{ readonly accepted: number; readonly refused: number }> {
    // proc(5), /proc/<pid>/net/snmp (RFC 4022): a line of names, and one of values.
    const lines = (await readFile(`/proc/${this.pid}/net/snmp`, 'utf8')).split('\n');
    const [names = [], values = []] = lines.filter((line) => line.startsWith('Tcp:')).map((line) => line.split(' '));
    const value = (name: string) => Number(values[names.indexOf(name)] ?? 0);
    return { accepted: value('PassiveOpens'), refused: value('OutRsts') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** In the store of an agent that does not run yet. */
async function hold(payload: string, data: string, signal: AbortSignal): Promise<string> {
  await using store = await PackStore.open(join(data, 'store'), { log: silentLog });
  const { manifest } = await importArtifact(payload, store, { signal });
  await store.flush();
  return manifest.cid.toString();
}

async function startAgent(namespace: Namespace, data: string, signal: AbortSignal): Promise<Agent> {
  const log = await open(`${data}.log`, 'a');
  const child = namespace.spawn([process.execPath, LAUNCHER, 'up'], {
    stdio: ['ignore', log.fd, log.fd],
    env: envOf(data),
  });
  await log.close();
  const until = performance.now() + START_MS;
  for (;;) {
    const admin = await connectAdmin(data);
    if (admin !== undefined) return { process: child, admin };
    signal.throwIfAborted();
    if (child.exitCode !== null || performance.now() > until) throw new Error(`no agent starts: see ${data}.log`);
    await delay(100);
  }
}

async function runCli(namespace: Namespace, data: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  const argv = ['netns', 'exec', namespace.name, process.execPath, LAUNCHER, ...args];
  const child = spawn('ip', argv, { stdio: ['ignore', 'ignore', 'inherit'], env: envOf(data), signal });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`bootmesh ${args[0]} ended with ${code}`);
}

function envOf(data: string): NodeJS.ProcessEnv {
  const { PATH } = process.env;
  return { PATH, HOME: '/nonexistent', BOOTMESH_DATA: data, BOOTMESH_LOG_LEVEL: 'warn' };
}

async function met(agents: readonly Agent[], signal: AbortSignal): Promise<void> {
  const until = performance.now() + START_MS;
  for (const { admin } of agents) {
    while ((await admin.status({}, { signal })).peersConnected === 0) {
      if (performance.now() > until) throw new Error('the two members do not meet');
      await delay(100, undefined, { signal });
    }
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await gone;
  clearTimeout(late);
}
