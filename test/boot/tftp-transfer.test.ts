import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeTftp, encodeTftp } from '../../src/boot/tftp-packet.ts';
import { negotiate, TftpTransfer, type TransferStep } from '../../src/boot/tftp-transfer.ts';

const ack = (block: number) => ({ kind: 'ack', block: block & 0xffff }) as const;

function sent(step: TransferStep) {
  assert.equal(step.kind, 'send');
  return step.kind === 'send' ? step.packets.map((bytes) => decodeTftp(bytes)) : [];
}

/** Fetches as RFC 7440 wants, over a network that loses what `lose` says. Returns the bytes and how many were sent. */
function fetchAll(bytes: Uint8Array, asked: ReadonlyMap<string, string>, lose: () => boolean) {
  const options = negotiate(asked, bytes.length);
  const transfer = new TftpTransfer(bytes, options);
  const got: Uint8Array[] = [];
  let next = 1;
  let step = transfer.start();
  for (let turns = 0; turns < 100_000; turns++) {
    if (step.kind === 'done') return { got: Buffer.concat(got), blocks: next - 1 };
    if (step.kind === 'failed') throw new Error(step.reason);
    const answers: number[] = [];
    for (const packet of step.kind === 'send' ? step.packets : []) {
      if (lose()) continue;
      const read = decodeTftp(packet);
      if (read.kind === 'oack') answers.push(0);
      if (read.kind !== 'data') continue;
      if (read.block === (next & 0xffff)) {
        got.push(read.bytes);
        next += 1;
      }
      answers.push(next - 1);
    }
    // A client acknowledges the window once, with the last block it has in order; a lost ACK shows as silence.
    const last = answers.at(-1);
    step = last === undefined || lose() ? transfer.timeout() : transfer.receive(ack(last));
    if (step.kind === 'ignore') step = transfer.timeout();
  }
  throw new Error('no end');
}

describe('a TFTP transfer', () => {
  it('honours blksize, windowsize, tsize and timeout, and says so; nonsense is ignored', () => {
    const asked = new Map([
      ['blksize', '1428'],
      ['windowsize', '4'],
      ['tsize', '0'],
      ['timeout', '3'],
      ['multicast', ''],
    ]);
    const options = negotiate(asked, 4711);
    assert.deepEqual(
      [...options.acknowledged],
      [
        ['blksize', '1428'],
        ['windowsize', '4'],
        ['timeout', '3'],
        ['tsize', '4711'],
      ],
    );
    assert.deepEqual([options.blockSize, options.windowSize, options.timeoutMs], [1428, 4, 3000]);
    assert.equal(negotiate(new Map([['blksize', '65464']]), 1).acknowledged.get('blksize'), '1468');
    const nonsense = new Map([
      ['blksize', '7'],
      ['windowsize', '0'],
      ['timeout', '1e3'],
    ]);
    assert.deepEqual(negotiate(nonsense, 1).acknowledged, new Map());
  });

  it('without options begins with the first block, of 512 bytes', () => {
    const transfer = new TftpTransfer(new Uint8Array(600), negotiate(new Map(), 600));
    const [first] = sent(transfer.start());
    assert.ok(first?.kind === 'data' && first.block === 1 && first.bytes.length === 512);
    const [last] = sent(transfer.receive(ack(1)));
    assert.ok(last?.kind === 'data' && last.bytes.length === 88);
    assert.equal(transfer.receive(ack(2)).kind, 'done');
  });

  it('ends a file of whole blocks with an empty one', () => {
    const transfer = new TftpTransfer(new Uint8Array(512), negotiate(new Map(), 512));
    transfer.start();
    const [last] = sent(transfer.receive(ack(1)));
    assert.ok(last?.kind === 'data' && last.block === 2 && last.bytes.length === 0);
  });

  it('ignores repeated ACKs and ACKs of what was never sent', () => {
    const transfer = new TftpTransfer(new Uint8Array(5000), negotiate(new Map(), 5000));
    transfer.start();
    assert.equal(transfer.receive(ack(2)).kind, 'ignore');
    assert.equal(transfer.receive(ack(1)).kind, 'send');
    assert.equal(transfer.receive(ack(1)).kind, 'ignore');
    assert.equal(transfer.receive(ack(0)).kind, 'ignore');
    assert.equal(transfer.receive({ kind: 'data', block: 2, bytes: new Uint8Array() }).kind, 'ignore');
  });

  it('goes on within a window from the block after the one acknowledged', () => {
    const asked = new Map([['windowsize', '4']]);
    const transfer = new TftpTransfer(new Uint8Array(5120), negotiate(asked, 5120));
    assert.equal(sent(transfer.start())[0]?.kind, 'oack');
    const blocks = (step: TransferStep) => sent(step).map((packet) => packet.kind === 'data' && packet.block);
    assert.deepEqual(blocks(transfer.receive(ack(0))), [1, 2, 3, 4]);
    assert.deepEqual(blocks(transfer.receive(ack(2))), [3, 4, 5, 6]);
    assert.deepEqual(blocks(transfer.timeout()), [3, 4, 5, 6]);
  });

  it('gives up on a client that aborts, or stays silent after five repetitions', () => {
    const transfer = new TftpTransfer(new Uint8Array(10), negotiate(new Map([['tsize', '0']]), 10));
    transfer.start();
    for (let n = 0; n < 5; n++) assert.equal(sent(transfer.timeout())[0]?.kind, 'oack');
    assert.equal(transfer.timeout().kind, 'failed');
    const other = new TftpTransfer(new Uint8Array(10), negotiate(new Map(), 10));
    assert.equal(other.receive({ kind: 'error', code: 0, message: 'TFTP Aborted' }).kind, 'failed');
  });

  it('delivers every byte over a lossy network, whatever was negotiated', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 6000 }),
        fc.integer({ min: 8, max: 1468 }),
        fc.integer({ min: 1, max: 40 }),
        fc.infiniteStream(fc.integer({ min: 0, max: 9 })),
        (bytes, blockSize, windowSize, dice) => {
          const asked = new Map([
            ['blksize', String(blockSize)],
            ['windowsize', String(windowSize)],
          ]);
          let losses = 0;
          const lose = () => dice.next().value === 0 && losses++ < 4;
          assert.deepEqual(fetchAll(bytes, asked, lose).got, Buffer.from(bytes));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('rolls block numbers over: 80,000 blocks of 8 bytes', () => {
    const bytes = new Uint8Array(8 * 80_000 - 3).map((_, index) => index * 31 + (index >>> 8));
    for (const windowSize of ['1', '7']) {
      const asked = new Map([
        ['blksize', '8'],
        ['windowsize', windowSize],
      ]);
      const { got, blocks } = fetchAll(bytes, asked, () => false);
      assert.equal(blocks, 80_000);
      assert.ok(got.equals(bytes));
    }
    assert.equal(encodeTftp(ack(65_536))[3], 0);
  });
});
