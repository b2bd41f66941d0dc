import { createHash } from 'node:crypto';
import type { Operations, ReadOptions } from '../../src/admin/operations.ts';
import type { MemberLine, PendingLine } from '../../src/admin/results.ts';

const peerId = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp';
const cid = 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi';

const member: MemberLine = {
  peerId,
  name: 'edge-2',
  site: 'edge',
  roles: ['seed'],
  address: 'fd00::2',
  issuer: 'owner',
  since: '2026-11-22T11:00:00.000Z',
  notAfter: '2027-01-21T11:00:00.000Z',
  state: 'member',
  connected: true,
  self: false,
};

const waiting: PendingLine = {
  peerId,
  name: 'edge-3',
  machine: ['mac:52:54:00:12:34:56'],
  firstAt: '2026-11-22T11:00:00.000Z',
  lastAt: '2026-11-22T11:01:00.000Z',
};

/** Operations that answer at once from nothing, for tests of what carries them. Override what a test is about. */
export function fakeOperations(overrides: Partial<Operations> = {}): Operations {
  return {
    publish: async ({ channel, kernel }) => ({
      channel,
      version: 7,
      payloadBytes: 3,
      artifacts: [{ name: kernel, cid, size: 3 }],
    }),
    get: async (_input, { write }: ReadOptions) => {
      const bytes = Buffer.from('abc');
      await write(bytes);
      return { cid, size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
    },
    status: async () => ({
      peerId,
      site: 'edge',
      data: '/data',
      agent: true,
      uptimeSeconds: 61,
      peersConnected: 1,
      channels: [{ channel: 'production', version: 7, held: 0.5 }],
      store: { chunks: 2, bytes: 1000, diskBytes: 1200 },
      addresses: ['http://127.0.0.1:8080'],
    }),
    peers: async () => ({
      peers: [{ peerId, name: 'edge-2', site: 'edge', connected: true, bytesIn: 1, bytesOut: 2 }],
    }),
    ping: async () => ({
      pings: [{ peerId, name: 'edge-2', site: 'edge', outcome: 'chunk', path: 'lan', cid, bytes: 3, ms: 1.5 }],
    }),
    ls: async () => ({
      channels: [{ channel: 'production', version: 7, held: 1, artifacts: [{ name: 'kernel', cid, size: 3 }] }],
      pins: [{ name: 'mine', cid, size: 3, held: 1 }],
    }),
    pin: async ({ cid, name = cid }) => ({ name, cid, held: 1 }),
    unpin: async ({ name }) => ({ name, cid }),
    gc: async () => ({ evictedChunks: 1, evictedBytes: 2, freedBytes: 3 }),
    verify: async () => ({ chunks: 2, bytes: 1000, damaged: [] }),
    invite: async ({ site = 'edge' }) => ({
      token: 'bm1.abc',
      site,
      notAfter: '2026-11-22T12:00:00.000Z',
      addresses: ['/ip4/192.0.2.1/tcp/4003'],
    }),
    pending: async () => ({ pending: [waiting] }),
    approve: async () => waiting,
    members: async () => ({ members: [member] }),
    courierExport: async (_input, { write }: ReadOptions) => {
      const bytes = Buffer.from('abc');
      await write(bytes);
      return { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex'), statements: 1 };
    },
    courierImport: async () => ({ metadata: true, news: 2, refused: 0 }),
    overlayExport: async ({ name }) => ({
      ...{ name, peerId, site: 'edge', address: 'fd00::9' },
      ...{ notAfter: '2027-11-22T11:00:00.000Z', configuration: '[Interface]\n' },
    }),
    overlay: async () => ({ state: 'off' }),
    renew: async () => member,
    revoke: async () => ({ ...member, state: 'revoked' }),
    limit: async () => ({ down: 2_500_000 }),
    ...overrides,
  };
}
