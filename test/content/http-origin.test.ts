import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { chunkCid } from '../../src/content/chunk.ts';
import { CorruptChunk } from '../../src/content/chunk-source.ts';
import { Chunker } from '../../src/content/chunker.ts';
import { httpOrigin, UnusableOrigin } from '../../src/content/http-origin.ts';
import { readArtifact } from '../../src/content/read-artifact.ts';
import { verified } from '../../src/content/verified.ts';
import { importFile } from '../../src/import/import-file.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const { signal } = new AbortController();
const file = randomBytes(200_000);
const chunker = new Chunker({ min: 1024, average: 4096, max: 16384 });
const manifest = await importFile(whole(file), new MemoryStore(), { signal, chunker });
const leaf = manifest.leaves[3] ?? assert.fail();

async function* whole(bytes: Uint8Array) {
  yield bytes;
}

type Answer = (request: IncomingMessage, response: ServerResponse, from: number, last: number) => void;

/** Runs `test` with the URL of a server that answers as told. */
async function serving(answer: Answer, test: (url: string, server: Server) => Promise<void>): Promise<void> {
  const server = createServer((request, response) => {
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    answer(request, response, Number(range?.[1]), Number(range?.[2]));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await test(`http://127.0.0.1:${(server.address() as AddressInfo).port}/rootfs`, server);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const honest =
  (content: Buffer): Answer =>
  (_request, response, from, last) => {
    response.writeHead(206, { 'content-range': `bytes ${from}-${last}/${content.length}` });
    response.end(content.subarray(from, last + 1));
  };

describe('httpOrigin', () => {
  it('reads a whole artifact off a plain file, with bounded connections', async () => {
    let open = 0;
    let most = 0;
    const answer: Answer = (request, response, from, last) => {
      most = Math.max(most, ++open);
      response.on('finish', () => open--);
      setImmediate(() => honest(file)(request, response, from, last));
    };
    await serving(answer, async (url) => {
      const source = verified(httpOrigin(url, manifest, { connections: 3 }), url);
      const parts: Uint8Array[] = [];
      for await (const part of readArtifact(manifest, source, { signal })) parts.push(part);
      assert.deepEqual(Buffer.concat(parts), file);
      assert.ok(most > 1 && most <= 3, `${most} at once`);
    });
  });

  it('does not ask for chunks of other artifacts, and has nothing where the file is not', async () => {
    let asked = 0;
    const answer: Answer = (_request, response) => {
      asked++;
      response.writeHead(404).end('gone');
    };
    await serving(answer, async (url) => {
      assert.equal(await httpOrigin(url, manifest).get(chunkCid(randomBytes(3)), { signal }), undefined);
      assert.equal(asked, 0);
      assert.equal(await httpOrigin(url, manifest).get(leaf.cid, { signal }), undefined);
    });
  });

  it('finds wrong bytes, when it is verified', async () => {
    await serving(honest(randomBytes(file.length)), async (url) => {
      await assert.rejects(
        verified(httpOrigin(url, manifest), url).get(leaf.cid, { signal }),
        (error) => error instanceof CorruptChunk && error.from === url,
      );
    });
  });

  const unusable: Record<string, [Answer, RegExp]> = {
    'ignores ranges': [(_request, response) => void response.writeHead(200).end(file), /ignores range requests/],
    'has a shorter file': [(_request, response) => void response.writeHead(416).end(), /ends before byte/],
    'has a longer file': [
      (_request, response, from, last) => {
        response.writeHead(206, { 'content-range': `bytes ${from}-${last}/${file.length + 1}` });
        response.end(file.subarray(from, last + 1));
      },
      /has a file of 200001 bytes/,
    ],
    'sends another range': [
      (_request, response) => void response.writeHead(206, { 'content-range': 'bytes 0-9/200000' }).end(file),
      /another range/,
    ],
    'sends too much': [
      (_request, response, from, last) => {
        response.writeHead(206, { 'content-range': `bytes ${from}-${last}/${file.length}` });
        response.end(file.subarray(from));
      },
      /more than the/,
    ],
  };
  for (const [name, [answer, message]] of Object.entries(unusable)) {
    it(`refuses a server that ${name}, and says why`, async () => {
      await serving(answer, async (url) => {
        await assert.rejects(
          httpOrigin(url, manifest).get(leaf.cid, { signal }),
          (error) => error instanceof UnusableOrigin && error.url === url && message.test(error.message),
        );
      });
    });
  }

  it('rejects for a body that is cut short, an error status, silence, and no server at all', async () => {
    const short: Answer = (_request, response, from, last) => {
      response.writeHead(206, { 'content-range': `bytes ${from}-${last}/${file.length}` });
      response.end(file.subarray(from, last));
    };
    await serving(short, (url) => assert.rejects(httpOrigin(url, manifest).get(leaf.cid, { signal }), /ended after/));
    const broken: Answer = (_request, response) => void response.writeHead(503).end();
    await serving(broken, (url) => assert.rejects(httpOrigin(url, manifest).get(leaf.cid, { signal }), /503/));
    const silent: Answer = () => {};
    await serving(silent, (url) =>
      assert.rejects(httpOrigin(url, manifest, { timeout: 50 }).get(leaf.cid, { signal }), { name: 'TimeoutError' }),
    );
    await assert.rejects(httpOrigin('http://127.0.0.1:1/', manifest).get(leaf.cid, { signal }));
  });
});
