import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseDescription } from '../../src/fleet/description.ts';
import { cutRules, natRules } from '../../src/lab/firewall.ts';
import { labUp } from '../../src/lab/lab.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';

const missing = await missingRequirements({ nat: true });
const skip = missing.length > 0 && missing.join('; ');

const drops = (rules: string) => rules.match(/^ +.*drop$/gm)?.map((line) => line.trim()) ?? [];
const port = (site: string) => `w-${site}`;

test('a NAT lets nothing in that was not asked for, neither through nor to itself', () => {
  assert.match(natRules('wan', 'kept'), /oifname "wan" masquerade$/m);
  assert.match(natRules('wan', 'random'), /oifname "wan" masquerade fully-random$/m);
  const [input, forward, ...more] = drops(natRules('wan', 'kept'));
  assert.deepEqual([input, forward, more], [...Array(2).fill('iifname "wan" ct state new drop'), []]);
});

test('a cut holds in both directions, and the rules replace those before', () => {
  assert.deepEqual(drops(cutRules([['a', 'b'], ['c']], port)), [
    'iifname "w-a" oifname "w-b" drop',
    'iifname "w-b" oifname "w-a" drop',
    'iifname "w-c" drop',
    'oifname "w-c" drop',
  ]);
  assert.deepEqual(drops(cutRules([], port)), []);
  assert.match(cutRules([], port), /^table bridge cuts \{\n\}\ndelete table bridge cuts\ntable bridge cuts \{/);
});

test('two nodes that send to each other find a way through NATs that keep ports, unless it is cut; through others none', {
  skip,
  timeout: 60_000,
}, async (t) => {
  const { signal } = t;
  const folder = await mkdtemp(join(tmpdir(), 'bm-nat-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const fleet = (nat: string) =>
    `fleet: pair\nsites: { a: { nat: ${nat} }, b: { nat: ${nat} } }\nnodes: { x: { site: a }, y: { site: b } }\n`;
  const open = async (nat: string) => {
    const options = { agentCommand: ['true'], directory: join(folder, nat), start: [] };
    return await labUp(parseDescription(fleet(nat), 'fleet.yaml'), options, { signal });
  };
  await using kept = await open('kept');
  await using random = await open('random');
  /** From where each of the two hears of the other; its router, when it does. */
  const meet = async (lab: typeof kept, patienceMs: number) => {
    const heard = (from: string, own: number, router: string, port: number) =>
      lab.exec(from, [process.execPath, '--eval', sendsAndHears(own, router, port, patienceMs)]);
    const both = await Promise.all([heard('x', 5000, '10.77.0.2', 6000), heard('y', 6000, '10.77.0.1', 5000)]);
    return both.map(({ stdout }) => stdout.trim());
  };
  assert.deepEqual(await Promise.all([meet(kept, 15_000), meet(random, 3_000)]), [
    ['10.77.0.2:6000', '10.77.0.1:5000'],
    ['nothing', 'nothing'],
  ]);
  await kept.partition('a', 'b');
  assert.deepEqual(await meet(kept, 2_000), ['nothing', 'nothing']);
});

/** A program that sends to one place from one port until it has an answer and a little longer, and prints from where. */
function sendsAndHears(own: number, host: string, port: number, patienceMs: number): string {
  return `const socket = require('node:dgram').createSocket('udp4');
    const end = (text) => { console.log(text); process.exit(); };
    setTimeout(end, ${patienceMs}, 'nothing');
    socket.on('message', (_, { address, port }) => setTimeout(end, 500, address + ':' + port));
    socket.bind(${own}, () => setInterval(() => socket.send('hello', ${port}, '${host}'), 100));`;
}
