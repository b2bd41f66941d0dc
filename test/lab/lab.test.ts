import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, suite, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { parse } from 'yaml';
import { parseDescription, readDescription } from '../../src/fleet/description.ts';
import { Roster } from '../../src/fleet/roster.ts';
import { type Lab, type LabOptions, labUp } from '../../src/lab/lab.ts';
import { labExec, labStatus, labUpDetached } from '../../src/lab/lab-control.ts';
import { labDown } from '../../src/lab/lab-down.ts';
import { LabDirectory } from '../../src/lab/lab-state.ts';
import { listNamespaces } from '../../src/lab/namespace.ts';
import { processRef } from '../../src/lab/process.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && `no lab can be made here: ${missing.join('; ')}`;
const fake = (name: string) => new URL(`../fakes/${name}.ts`, import.meta.url).pathname;
const agentCommand = [process.execPath, fake('lab-agent')];
const MEGABYTE = 1e6;
const SMALL = 'fleet: small\nsites: { s: {} }\nnodes: { a: { site: s }, b: { site: s } }\n';

suite('a fleet of two sites', { skip }, () => {
  const events: string[] = [];
  const open = new AsyncDisposableStack();
  let lab: Lab;

  before(async () => {
    const directory = await temporary();
    open.defer(() => rm(directory, { recursive: true, force: true }));
    const description = parseDescription(
      `fleet: two
sites:
  origin: { uplink: { up: 100Mbit, down: 100Mbit } }
  edge: { uplink: { up: 50Mbit, down: 50Mbit }, lan: 1Gbit }
segments:
  machines: { site: edge }
  gateways: { site: edge, families: [ipv6] }
nodes:
  publisher: { site: origin, roles: [origin] }
  edge-1: { site: edge, segment: machines }
  edge-2: { site: edge, segment: machines }
  gate: { site: edge, segment: gateways }
machines:
  bare-1: { segment: machines, memory: 64MiB }
`,
      'two.yaml',
    );
    const onEvent: LabOptions['onEvent'] = (event) => {
      events.push('node' in event ? `${event.type} ${event.node}` : event.type);
    };
    lab = open.use(
      await labUp(description, { agentCommand, directory, onEvent }, { signal: AbortSignal.timeout(30_000) }),
    );
  });
  after(() => open.disposeAsync());

  test('the agents get keys, one description of all of them, and configurations that fit', async () => {
    const { members } = new Roster(await readDescription(join(lab.directory, 'fleet.yaml')));
    assert.deepEqual(
      members.map(({ name, peerId, addresses }) => ({ name, peerId, addresses })),
      Object.values(lab.nodes).map(({ name, peerId, multiaddrs }) => ({ name, peerId, addresses: multiaddrs })),
    );
    const config = parse(await readFile(lab.node('edge-1').config, 'utf8'));
    assert.deepEqual(config.boot, {
      mode: 'auto',
      interface: 'eth0',
      pool: { from: '10.77.1.100', to: '10.77.1.199' },
      router: '10.77.1.1',
    });
    assert.deepEqual(config.swarm.listen, lab.node('edge-1').multiaddrs);
    assert.equal(parse(await readFile(lab.node('publisher').config, 'utf8')).boot.mode, 'off');
  });

  test('what crosses the uplink is counted towards the edge; what stays on the segment is not', async () => {
    const size = 2 * MEGABYTE;
    for (const base of lab.node('publisher').gateways) {
      const before = await lab.uplink('edge');
      assert.equal(await fetchBytes(lab, 'edge-1', `${base}/${size}`), size);
      const later = await lab.uplink('edge');
      const bytes = later.toSite.bytes - before.toSite.bytes;
      assert.ok(bytes >= size * 1.045 && bytes <= size * 1.08, `${bytes} counted for ${size} from ${base}`);
      assert.ok(later.fromSite.bytes - before.fromSite.bytes < size * 0.1);
    }
    const before = await lab.uplink('edge');
    for (const base of lab.node('edge-2').gateways)
      assert.equal(await fetchBytes(lab, 'edge-1', `${base}/${size}`), size);
    const after = await lab.uplink('edge');
    assert.ok(after.toSite.bytes - before.toSite.bytes < 20_000, 'chatter only');
    const { toNode, fromNode } = await lab.traffic('edge-2');
    assert.ok(fromNode.bytes >= 2 * size && toNode.bytes > 0);
  });

  test('a segment of IPv6 only reaches its neighbours and the other site', async () => {
    assert.deepEqual(lab.node('gate').gateways.length, 1);
    for (const name of ['edge-1', 'publisher']) {
      const base = lab.node(name).gateways.find((url) => url.includes('['));
      assert.equal(await fetchBytes(lab, 'gate', `${base}/1000`), 1000);
    }
  });

  test('a pulled cable is silence, and a plugged one is as before', async () => {
    const [ipv4, ipv6] = lab.node('edge-2').gateways;
    await lab.linkDown('edge-2');
    await assert.rejects(fetchBytes(lab, 'edge-1', `${ipv4}/1`, 400), /TimeoutError/);
    assert.notEqual(lab.pid('edge-2'), undefined);
    await lab.linkUp('edge-2');
    for (const base of [ipv4, ipv6]) assert.equal(await fetchBytes(lab, 'edge-1', `${base}/1`), 1);
    assert.equal(await fetchBytes(lab, 'edge-2', `${lab.node('publisher').gateways[1]}/1`), 1);
  });

  test('agents are stopped and started one by one, and a stopped one refuses', async () => {
    const [url] = lab.node('edge-2').gateways;
    assert.deepEqual(await lab.stopNode('edge-2', { signal: 'SIGKILL' }), { code: null, signal: 'SIGKILL' });
    assert.equal(lab.pid('edge-2'), undefined);
    assert.equal(await lab.stopNode('edge-2'), undefined);
    await assert.rejects(fetchBytes(lab, 'edge-1', `${url}/1`), /ECONNREFUSED/);
    await lab.startNode('edge-2', { signal: AbortSignal.timeout(10_000) });
    assert.equal(await fetchBytes(lab, 'edge-1', `${url}/1`), 1);
    assert.deepEqual(await lab.stopNode('edge-2'), { code: null, signal: 'SIGTERM' });
    await lab.startNode('edge-2', { signal: AbortSignal.timeout(10_000) });
    assert.deepEqual(events.slice(-6), [
      ...['agent:exit edge-2', 'agent:start edge-2', 'agent:ready edge-2'],
      ...['agent:exit edge-2', 'agent:start edge-2', 'agent:ready edge-2'],
    ]);
    await assert.rejects(lab.stopNode('edge-9'), /no node 'edge-9': it has publisher, edge-1/);
  });

  test('another process sees it, runs programs in it, and cannot make it twice', async () => {
    const status = await labStatus(lab.directory);
    assert.equal(status.state, 'up');
    assert.equal(status.nodes.find(({ name }) => name === 'gate')?.pid, lab.pid('gate'));
    assert.ok((status.uplinks.find(({ site }) => site === 'edge')?.toSite?.bytes ?? 0) > MEGABYTE);
    assert.equal(
      await labExec(lab.directory, 'gate', ['sh', '-c', 'ip -br addr | grep -q "^eth0.*::b/64" && exit 7']),
      7,
    );
    await assert.rejects(labExec(lab.directory, 'x', ['true']), { code: 'LAB_NOT_FOUND', message: /no node 'x'/ });
    const again = labUp(
      lab.description,
      { agentCommand, directory: lab.directory },
      { signal: AbortSignal.timeout(9_000) },
    );
    await assert.rejects(again, { code: 'LAB_BUSY', message: new RegExp(`process ${process.pid} holds`) });
  });

  test('a machine is plugged into its segment, and counted among what runs', async () => {
    const machine = await lab.startMachine('bare-1', {}, { signal: AbortSignal.timeout(10_000) });
    assert.equal((await labStatus(lab.directory)).machines[0]?.pid, machine.pid);
    await machine.waitFor(/SeaBIOS/, { signal: AbortSignal.timeout(20_000) });
    await machine[Symbol.asyncDispose]();
    assert.equal((await labStatus(lab.directory)).machines[0]?.pid, undefined);
  });

  test('taken down, nothing of it is left', async () => {
    const pids = Object.keys(lab.nodes).map((name) => lab.pid(name));
    await lab[Symbol.asyncDispose]();
    await assertNothingLeft(lab.directory, pids);
    assert.equal((await labStatus(lab.directory)).state, 'down');
    await assert.rejects(lab.startNode('gate', { signal: AbortSignal.timeout(1_000) }), /the lab is down/);
  });
});

test('an agent that ends at once fails the lab with its last words, and nothing is left', { skip }, async (t) => {
  const directory = await scratch(t);
  const description = parseDescription(SMALL.replace(' b: ', ' broken: '), 'f.yaml');
  await assert.rejects(labUp(description, { agentCommand, directory }, { signal: AbortSignal.timeout(20_000) }), {
    code: 'AGENT_FAILED',
    node: 'broken',
    message: /node broken ended with exit code 3; the end of .*agent\.log:\nthe configuration is no good$/,
  });
  await assertNothingLeft(directory, []);
});

test('an agent that does not get ready in time fails the lab', { skip }, async (t) => {
  const directory = await scratch(t);
  const ready: LabOptions['ready'] = (_, { signal }) =>
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const options = { agentCommand, directory, ready, readyTimeoutMs: 300 };
  await assert.rejects(labUp(parseDescription(SMALL, 'f.yaml'), options, { signal: AbortSignal.timeout(20_000) }), {
    code: 'AGENT_FAILED',
    message: /did not get ready in time/,
  });
  await assertNothingLeft(directory, []);
});

test('Ctrl-C while the network is made, and when all stands, leaves nothing', { skip }, async (t) => {
  for (const moment of ['network:up', 'up']) {
    const { host, directory } = await startHost(t, moment);
    const { pids } = await seen(directory);
    process.kill(-(host.pid ?? assert.fail('no pid')), 'SIGINT');
    await once(host, 'exit');
    await assertNothingLeft(directory, pids);
  }
});

test('after a crash the agents are dead, the state is known, and lab down or a next lab up clears it', {
  skip,
}, async (t) => {
  const { host, directory } = await startHost(t, 'up');
  const { pids } = await seen(directory);
  assert.equal(pids.length, 2);
  host.kill('SIGKILL');
  await once(host, 'exit');
  // The kernel ended the agents with their lab; nobody has cleaned up yet.
  for (const end = Date.now() + 5_000; (await seen(directory)).pids.length > 0; await delay(10)) {
    assert.ok(Date.now() < end, 'the agents outlive their lab');
  }
  const status = await labStatus(directory);
  assert.equal(status.state, 'broken');
  assert.equal(status.namespaces.length, 5);
  const report = await labDown(directory);
  assert.deepEqual([report.found, report.owner, report.namespaces.length], [true, 'gone', 5]);
  await assertNothingLeft(directory, pids);
  assert.equal((await labDown(directory)).found, false);

  const early = await startHost(t, 'network:up');
  early.host.kill('SIGKILL');
  await once(early.host, 'exit');
  await writeFile(join(early.directory, 'lab.json'), '{ damaged');
  assert.equal((await labStatus(early.directory)).state, 'broken');
  const options = { agentCommand, directory: early.directory };
  const next = await labUp(parseDescription(SMALL, 'f.yaml'), options, { signal: AbortSignal.timeout(20_000) });
  await next[Symbol.asyncDispose]();
  await assertNothingLeft(early.directory, []);
});

test('a lab in the background is taken down by asking its process', { skip }, async (t) => {
  const directory = join(await scratch(t), 'lab');
  const file = await describe(t);
  const command = [process.execPath, fake('lab-host'), file, directory];
  const signal = AbortSignal.timeout(20_000);
  const status = await labUpDetached(command, directory, { signal });
  assert.equal(status.state, 'up');
  await assert.rejects(labUpDetached(command, directory, { signal }), { code: 'LAB_BUSY' });
  const report = await labDown(directory);
  assert.deepEqual([report.found, report.owner], [true, 'ended']);
  await assertNothingLeft(directory, [status.pid, ...status.nodes.map(({ pid }) => pid)]);
  const broken = [process.execPath, fake('lab-host'), '/nonexistent.yaml', directory];
  await assert.rejects(labUpDetached(broken, directory, { signal }), {
    code: 'LAB_FAILED',
    message: /nonexistent\.yaml/,
  });
});

test('a directory of somebody else is neither filled nor cleared', { skip }, async (t) => {
  const directory = await scratch(t);
  await writeFile(join(directory, 'thesis.txt'), '');
  const up = labUp(
    parseDescription(SMALL, 'f.yaml'),
    { agentCommand, directory },
    { signal: AbortSignal.timeout(9_000) },
  );
  await assert.rejects(up, { code: 'LAB_DIRECTORY_UNUSABLE', message: /it holds thesis\.txt; name an empty one/ });
  await labDown(directory);
  assert.deepEqual(await readdir(directory), ['thesis.txt']);
});

/** A process of its own that holds a lab up and has got as far as printing `moment`. */
async function startHost(t: TestContext, moment: string): Promise<{ host: ChildProcess; directory: string }> {
  const [file, directory] = [await describe(t), await scratch(t)];
  t.after(() => labDown(directory));
  const host = spawn(process.execPath, [fake('lab-host'), file, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  for await (const line of createInterface(host.stdout)) if (line === moment) return { host, directory };
  throw new Error(`the host ended before '${moment}'`);
}

async function seen(directory: string): Promise<{ pids: number[] }> {
  const { nodes } = await labStatus(directory);
  return { pids: nodes.flatMap(({ pid }) => pid ?? []) };
}

async function assertNothingLeft(directory: string, pids: readonly (number | undefined)[]): Promise<void> {
  assert.deepEqual(await listNamespaces(new LabDirectory(directory).prefix), []);
  for (const pid of pids) assert.equal(pid && (await processRef(pid)), undefined, `process ${pid} is left`);
  await assert.rejects(access(directory), { code: 'ENOENT' });
}

/** Bytes that a program in the node's namespace gets from `url`. */
async function fetchBytes(lab: Lab, node: string, url: string, timeoutMs = 10_000): Promise<number> {
  const script = `const r = await fetch('${url}', { signal: AbortSignal.timeout(${timeoutMs}) });
    let n = 0; for await (const part of r.body) n += part.length; console.log(n);`;
  const run = await lab.exec(node, [process.execPath, '--input-type=module', '-e', script]);
  return Number(run.stdout);
}

async function describe(t: TestContext): Promise<string> {
  const file = join(await scratch(t), 'fleet.yaml');
  await writeFile(file, SMALL);
  return file;
}

async function scratch(t: TestContext): Promise<string> {
  const folder = await temporary();
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function temporary(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'bm-lab-'));
}
