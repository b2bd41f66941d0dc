import type { CID } from 'multiformats/cid';
import { type Chunk, type ChunkRef, DAG_PB, MAX_CHUNK_BYTES, matches, RAW } from './chunk.ts';
import { ChunkSet } from './chunk-set.ts';
import { type ChunkSource, CorruptChunk, type GetOptions } from './chunk-source.ts';
import { decodeNode, InvalidManifest } from './unixfs-node.ts';

/** One piece of a file: `size` bytes at `offset`. The same CID may be at many offsets. */
export interface Leaf extends ChunkRef {
  readonly offset: number;
}

/** A file cut into chunks, as its UnixFS DAG says. */
export interface Manifest {
  readonly cid: CID;
  /** Bytes of the file. */
  readonly size: number;
  /** In file order, without gaps. */
  readonly leaves: readonly Leaf[];
  /** Its dag-pb blocks, root included. */
  readonly nodes: readonly CID[];
  /** The leaves' unique chunks; `set.id` is `cid`. */
  readonly set: ChunkSet;
}

/** What a manifest may be at most; more is refused before it is fetched. */
export const MANIFEST_LIMITS = {
  /** Node levels above the leaves: 3 hold 128 TiB at 128 KiB a leaf; other writers use narrower trees. */
  depth: 6,
  /** Leaves, and so bits of a have-map: 128 GiB at 128 KiB a leaf. */
  leaves: 1024 * 1024,
  /** Node references, the same node counted each time it is linked. */
  nodes: 16 * 1024,
} as const;

/** Nodes fetched at the same time; each is at most MAX_CHUNK_BYTES. */
const FETCH_WIDTH = 8;

/** A chunk that content needs is nowhere to be had. */
export class MissingChunk extends Error {
  readonly code = 'MISSING_CHUNK';
  readonly cid: CID;

  constructor(cid: CID, what: string) {
    super(`no source has chunk ${cid}, needed for ${what}`);
    this.name = 'MissingChunk';
    this.cid = cid;
  }
}

/** The manifest whose nodes, root last, are `nodes`. For the one who made them; others use `readManifest`. */
export function manifestOf(leaves: readonly ChunkRef[], nodes: readonly Chunk[]): Manifest {
  const root = nodes.at(-1);
  if (!root) throw new RangeError('a manifest has at least one node');
  return assemble(
    root.cid,
    leaves,
    nodes.map((node) => node.cid),
  );
}

/**
 * Reads the manifest `root` through `source`, level by level. Every block is checked against its CID, and the tree
 * against `MANIFEST_LIMITS`: the sizes that a node claims for its children must be what the children add up to.
 *
 * Rejects with `InvalidManifest` when the DAG is no such file, `MissingChunk` when the source lacks a node,
 * `CorruptChunk` when it gave wrong bytes, and with what the source rejects with.
 */
export async function readManifest(root: CID, source: ChunkSource, { signal }: GetOptions): Promise<Manifest> {
  if (root.code !== DAG_PB) throw new InvalidManifest(root, 'an artifact is named by a dag-pb node');
  const nodes: CID[] = [];
  let level: ChunkRef[] = [{ cid: root, size: Number.NaN }];
  for (let depth = 1; level.some((child) => child.cid.code === DAG_PB); depth++) {
    if (depth > MANIFEST_LIMITS.depth) throw new InvalidManifest(root, `it is deeper than ${MANIFEST_LIMITS.depth}`);
    level = await expand(root, level, nodes, source, signal);
  }
  return assemble(root, level, nodes);
}

/** Replaces every node of `level` by its children; appends the nodes to `nodes`. */
async function expand(root: CID, level: ChunkRef[], nodes: CID[], source: ChunkSource, signal: AbortSignal) {
  const below: ChunkRef[] = [];
  const wanted = level.filter((child) => child.cid.code === DAG_PB).length;
  if (nodes.length + wanted > MANIFEST_LIMITS.nodes) throw new InvalidManifest(root, 'it has too many nodes');
  for (let i = 0; i < level.length; i += FETCH_WIDTH) {
    const wave = level.slice(i, i + FETCH_WIDTH);
    const found = await Promise.all(
      wave.map((child) => (child.cid.code === DAG_PB ? children(root, child, source, signal) : [child])),
    );
    for (const child of wave) if (child.cid.code === DAG_PB) nodes.push(child.cid);
    for (const refs of found) for (const ref of refs) below.push(ref);
    if (below.length > MANIFEST_LIMITS.leaves) throw new InvalidManifest(root, 'it has too many leaves');
  }
  return below;
}

async function children(root: CID, node: ChunkRef, source: ChunkSource, signal: AbortSignal): Promise<ChunkRef[]> {
  const bytes = await source.get(node.cid, { signal });
  if (!bytes) throw new MissingChunk(node.cid, `manifest ${root}`);
  if (bytes.length > MAX_CHUNK_BYTES) throw new InvalidManifest(node.cid, `it is ${bytes.length} bytes`);
  if (!matches(node.cid, bytes)) throw new CorruptChunk(node.cid, 'the source of the manifest');
  const refs = decodeNode(node.cid, bytes);
  const size = refs.reduce((sum, ref) => sum + ref.size, 0);
  if (!Number.isSafeInteger(size)) throw new InvalidManifest(node.cid, 'its size overflows');
  if (!Number.isNaN(node.size) && size !== node.size) {
    throw new InvalidManifest(node.cid, `its parent says ${node.size} bytes, its children say ${size}`);
  }
  return refs;
}

function assemble(cid: CID, refs: readonly ChunkRef[], nodes: readonly CID[]): Manifest {
  const leaves: Leaf[] = [];
  let size = 0;
  for (const ref of refs) {
    if (ref.cid.code !== RAW) throw new InvalidManifest(cid, `${ref.cid} is no piece of a file`);
    leaves.push({ cid: ref.cid, size: ref.size, offset: size });
    size += ref.size;
  }
  const set = new ChunkSet(cid, leaves);
  // Without a chunk that is there twice there is nothing to compare.
  for (const leaf of set.chunks.length < leaves.length ? leaves : []) {
    const first = set.chunks[set.indexOf(leaf.cid) ?? -1];
    if (first?.size !== leaf.size) throw new InvalidManifest(cid, `two sizes are given for ${leaf.cid}`);
  }
  return { cid, size, leaves, nodes, set };
}
