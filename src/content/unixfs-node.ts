import { decode, encode } from '@ipld/dag-pb';
import { UnixFS } from 'ipfs-unixfs';
import type { CID } from 'multiformats/cid';
import { type Chunk, type ChunkRef, chunkCid, DAG_PB, MAX_CHUNK_BYTES, RAW } from './chunk.ts';
import { readPlainNode } from './plain-node.ts';

/**
 * Children of one node. Part of the layout that the golden CID pins: as in the IPFS profile `unixfs-v1-2025`
 * (IPIP-499), a full node is about 55 KB and a 64 GiB artifact is three levels deep.
 */
export const FAN_OUT = 1024;

/** A manifest's block says something a file's DAG cannot say. `cid` is the block; the source is to blame, not the net. */
export class InvalidManifest extends Error {
  readonly code = 'INVALID_MANIFEST';
  readonly cid: CID;

  constructor(cid: CID, why: string, options?: ErrorOptions) {
    super(`manifest block ${cid} is not a usable UnixFS file: ${why}`, options);
    this.name = 'InvalidManifest';
    this.cid = cid;
  }
}

/** A node being laid out: `size` is the file bytes under it, `total` its own and all blocks' bytes (dag-pb's Tsize). */
interface Child extends ChunkRef {
  readonly total: number;
}

/**
 * The dag-pb blocks of a file with these leaves, root last: balanced, filled from the left, raw leaves, links named ''
 * as kubo writes them. Always at least one node, so that an artifact's CID is never that of a chunk of its content.
 */
export function layOut(leaves: readonly ChunkRef[]): Chunk[] {
  const nodes: Chunk[] = [];
  let level: readonly Child[] = leaves.map(({ cid, size }) => ({ cid, size, total: size }));
  do {
    const above: Child[] = [];
    for (let i = 0; i === 0 || i < level.length; i += FAN_OUT) {
      const children = level.slice(i, i + FAN_OUT);
      const node = encodeNode(children);
      nodes.push(node);
      above.push({
        cid: node.cid,
        size: children.reduce((sum, child) => sum + child.size, 0),
        total: children.reduce((sum, child) => sum + child.total, node.bytes.length),
      });
    }
    level = above;
  } while (level.length > 1);
  return nodes;
}

function encodeNode(children: readonly Child[]): Chunk {
  const file = new UnixFS({ type: 'file', blockSizes: children.map((child) => BigInt(child.size)) });
  const links = children.map((child) => ({ Name: '', Tsize: child.total, Hash: child.cid }));
  const bytes = encode({ Data: file.marshal(), Links: links });
  return { cid: chunkCid(bytes, DAG_PB), bytes };
}

/** The children that the node `cid` names, in file order; `size` is the file bytes under each, as the node claims. */
export function decodeNode(cid: CID, bytes: Uint8Array): ChunkRef[] {
  const { file, links } = parse(cid, bytes);
  if (file.type !== 'file' && file.type !== 'raw') throw new InvalidManifest(cid, `it is a ${file.type}`);
  if (file.data && file.data.length > 0) throw new InvalidManifest(cid, 'it holds file bytes inside a node');
  if (file.blockSizes.length !== links.length) {
    throw new InvalidManifest(cid, `${links.length} links but ${file.blockSizes.length} block sizes`);
  }
  return links.map((link, i) => {
    const size = Number(file.blockSizes[i]);
    if (link.code !== RAW && link.code !== DAG_PB) throw new InvalidManifest(cid, `link ${i} has codec ${link.code}`);
    const limit = link.code === RAW ? MAX_CHUNK_BYTES : Number.MAX_SAFE_INTEGER;
    if (size < 1 || size > limit) throw new InvalidManifest(cid, `block size ${size} of link ${i} is out of range`);
    return { cid: link, size };
  });
}

function parse(cid: CID, bytes: Uint8Array): { file: UnixFS; links: CID[] } {
  try {
    const plain = readPlainNode(bytes);
    if (plain !== undefined) return { file: UnixFS.unmarshal(plain.data), links: plain.links };
    const node = decode(bytes);
    if (!node.Data) throw new Error('no UnixFS data');
    return { file: UnixFS.unmarshal(node.Data), links: node.Links.map((link) => link.Hash) };
  } catch (cause) {
    throw new InvalidManifest(cid, cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
