import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const src = join(root, 'src');

/** Which room may import which, and why. A room that is not in a row's list is out of its reach, types included. */
const rooms: Record<string, { may: readonly string[]; why: string }> = {
  observe: { may: [], why: 'everyone speaks through it, so it may know no one' },
  host: { may: [], why: 'runs programs of the machine, without a shell; what they are for others know' },
  disk: { may: [], why: 'small files, written whole or not at all and read with care, whatever they hold' },
  content: { may: ['observe'], why: 'chunks are true whoever carries them' },
  import: { may: ['content'], why: 'turns files into chunks on all cores; nothing that reads them back needs that' },
  store: {
    may: ['disk', 'content', 'observe'],
    why: 'keeps chunks on disk; nobody below it knows that there is a disk',
  },
  schedule: { may: [], why: 'pure decisions: the simulator runs the same code as the agent' },
  limits: { may: [], why: 'how much may move or come and when, whoever it is: pure, so that any second can be tried' },
  lane: { may: ['content', 'observe'], why: 'carries chunk bytes between two peers; which chunks is not its business' },
  delta: {
    may: ['import', 'content', 'observe'],
    why: 'what is new in a chunk does not depend on who sends it, or why',
  },
  exchange: {
    may: ['lane', 'delta', 'content', 'schedule', 'limits', 'observe'],
    why: 'moves chunks between two peers; who they are is not its business',
  },
  swarm: {
    may: ['exchange', 'lane', 'delta', 'content', 'schedule', 'limits', 'observe'],
    why: 'finds and admits peers for the exchange, never learns what a kernel is',
  },
  fleet: { may: ['disk', 'observe'], why: 'who belongs does not depend on what is carried' },
  admission: {
    may: ['fleet', 'limits', 'disk', 'observe'],
    why: 'lets machines in; what a member may do afterwards is not its business',
  },
  enrolment: {
    may: ['admission', 'fleet', 'release', 'swarm', 'disk', 'observe'],
    why: 'makes a node a member of its fleet and keeps it one, whatever the fleet is for',
  },
  overlay: { may: ['host', 'disk', 'observe'], why: 'carries packets between members, never asks what is in them' },
  dhcp: {
    may: ['schedule', 'observe'],
    why: 'addresses and file names for clients; what a file holds is boot’s business',
  },
  boot: {
    may: ['dhcp', 'content', 'schedule', 'observe'],
    why: 'serves what is held here, never learns that peers exist',
  },
  image: { may: ['content', 'observe'], why: 'builds files from files' },
  release: { may: ['disk', 'content', 'schedule', 'observe'], why: 'decides by signatures, not by who brought them' },
  gateway: { may: ['content', 'observe'], why: 'serves names it is handed; routes come from the rooms they are about' },
  machine: { may: [], why: 'runs a virtual machine and reads its serial port; what it boots from, others build' },
  lab: {
    may: ['host', 'machine', 'fleet', 'enrolment', 'observe'],
    why: 'builds what a fleet description describes, its certificates included, with any agent command',
  },
  admin: {
    may: ['gateway', 'fleet', 'observe'],
    why: 'what an operator may ask of a node, and how it is asked; who does it is not its business',
  },
  agent: {
    may: [
      'admin',
      'admission',
      'enrolment',
      'overlay',
      'host',
      'observe',
      'disk',
      'content',
      'import',
      'store',
      'schedule',
      'limits',
      'delta',
      'swarm',
      'fleet',
      'boot',
      'image',
      'release',
      'gateway',
      'lab',
    ],
    why: 'introduces the rooms to each other; no one else does',
  },
  demo: {
    may: ['admin', 'agent', 'fleet', 'image', 'lab', 'machine', 'observe', 'release'],
    why: 'shows the main job with the parts a user has',
  },
  cli: {
    may: [
      'host',
      'admin',
      'admission',
      'enrolment',
      'observe',
      'content',
      'store',
      'fleet',
      'boot',
      'image',
      'release',
      'gateway',
      'lab',
      'agent',
      'swarm',
      'schedule',
      'overlay',
    ],
    why: 'one verb per file on top of everything',
  },
  launch: { may: [], why: 'runs on Node 20, and becomes the program on Node 26' },
  setup: { may: [], why: 'runs on Node 20 before anything is installed' },
};

const LINES = { most: 400, median: 120 };
const FILES_PER_ROOM = 16;

async function sources(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((e) => e.isFile() && /\.(ts|js)$/.test(e.name)).map((e) => join(e.parentPath, e.name));
}

const files = (await sources(src)).filter((file) => !file.endsWith('_pb.ts'));
const roomOf = (file: string) => relative(src, file).split('/')[0] ?? '';
const lines = new Map(await Promise.all(files.map(async (f) => [f, (await readFile(f, 'utf8')).split('\n')] as const)));

describe('the rooms of src', () => {
  it('are the rooms of the table', async () => {
    const entries = await readdir(src, { withFileTypes: true });
    const found = entries.filter((e) => e.isDirectory()).map((e) => e.name);
    assert.deepEqual(
      found.filter((room) => !(room in rooms)),
      [],
    );
  });

  it('import only what the table allows, type imports included', () => {
    const wrong: string[] = [];
    for (const [file, text] of lines) {
      const room = roomOf(file);
      for (const line of text) {
        const target = line.match(/(?:from|import)\s*\(?\s*'(\.[^']+)'/)?.[1];
        if (target === undefined) continue;
        const other = roomOf(resolve(dirname(file), target));
        if (other !== room && !rooms[room]?.may.includes(other)) {
          wrong.push(`${relative(root, file)} imports ${other}: ${room} may not, because ${rooms[room]?.why}`);
        }
      }
    }
    assert.deepEqual(wrong, []);
  });

  it('are flat and have few files', async () => {
    const crowded: string[] = [];
    for (const room of Object.keys(rooms)) {
      const own = files.filter((file) => roomOf(file) === room);
      if (own.length > FILES_PER_ROOM) crowded.push(`${room} has ${own.length} files: it is two rooms`);
      for (const file of own) {
        if (relative(join(src, room), file).includes('/')) crowded.push(`${relative(root, file)} is not flat`);
      }
    }
    assert.deepEqual(crowded, []);
  });
});

describe('the files of src', () => {
  it(`stay under ${LINES.most} lines, their median under ${LINES.median}`, () => {
    const sizes = [...lines].map(([file, text]) => ({ file: relative(root, file), lines: text.length }));
    assert.deepEqual(
      sizes.filter((each) => each.lines > LINES.most),
      [],
    );
    const sorted = sizes.map((each) => each.lines).sort((a, b) => a - b);
    assert.ok((sorted[Math.floor(sorted.length / 2)] ?? 0) <= LINES.median);
  });

  it('have names an operator would say', () => {
    const vague = files.filter((file) =>
      /(^|[-/])(utils?|common|core|types|helpers?|misc)([-./]|$)/.test(relative(src, file)),
    );
    assert.deepEqual(vague, []);
  });

  it('are mirrored by the folders of test', async () => {
    const lost: string[] = [];
    const extra = new Set(['fakes', 'conformance', 'fixtures', 'e2e', 'bench']);
    for (const entry of await readdir(join(root, 'test'), { withFileTypes: true })) {
      if (entry.isDirectory() && !extra.has(entry.name) && !(entry.name in rooms)) lost.push(entry.name);
    }
    assert.deepEqual(lost, []);
  });
});

describe('the clone', () => {
  it('has only the top level that the ecosystem expects', async () => {
    const expected = new Set(
      '.ci .git .gitignore .npmrc .cache LICENSE README.md bench biome.json dist node_modules package-lock.json package.json peers proto src test tsconfig.json'.split(
        ' ',
      ),
    );
    const found = await readdir(root);
    assert.deepEqual(
      found.filter((name) => !expected.has(name) && !name.endsWith('.tgz')),
      [],
    );
    assert.ok((await stat(join(root, '.ci/run'))).mode & 0o100, '.ci/run is executable');
  });
});
