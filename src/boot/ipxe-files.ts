import { open } from 'node:fs/promises';
import { join } from 'node:path';

/** Debian's package `ipxe`. Binaries are GPLv2 and never part of bootmesh. */
const DEBIAN_DIRECTORY = '/usr/lib/ipxe';
/** What firmware is given first, by the name it asks for over TFTP. */
const NAMES = ['undionly.kpxe'];
/** ipxe.efi with everything in it comes to 1.2 MB. */
const MAX_BYTES = 4 * 1024 * 1024;

export interface IpxeFiles {
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** One sentence for each that was not found: firmware that is no iPXE cannot boot from this node. */
  readonly missing: readonly string[];
}

/** Reads the binaries: from the site's directory, else from Debian's package. Never rejects for a missing file. */
export async function loadIpxe(directory: string | undefined): Promise<IpxeFiles> {
  const places = directory === undefined ? [DEBIAN_DIRECTORY] : [directory, DEBIAN_DIRECTORY];
  const files = new Map<string, Uint8Array>();
  const missing: string[] = [];
  for (const name of NAMES) {
    const tried: string[] = [];
    for (const place of places) {
      const found = await readBounded(join(place, name));
      if (typeof found === 'string') tried.push(found);
      else if (!files.has(name)) files.set(name, found);
    }
    if (!files.has(name)) {
      missing.push(
        `${name} for machines whose firmware is not iPXE (${tried.join('; ')}): install Debian's package ipxe, or set boot.ipxe`,
      );
    }
  }
  return { files, missing };
}

/** The bytes, or why there are none. */
async function readBounded(path: string): Promise<Uint8Array | string> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    return size > 0 && size <= MAX_BYTES ? await file.readFile() : `${path} has ${size} bytes`;
  } catch (error) {
    return `${path}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`;
  }
}
