import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { createNamespace } from './namespace.ts';
import { shape } from './shaping.ts';

/** Programs that every lab calls, and the Debian package that brings each. */
const PROGRAMS: readonly (readonly [program: string, debianPackage: string])[] = [
  ['ip', 'iproute2'],
  ['tc', 'iproute2'],
  ['setpriv', 'util-linux'],
  ['sysctl', 'procps'],
];

/** What some labs need besides. */
export interface Needs {
  /** A site has a NAT. @default false */
  readonly nat?: boolean;
  /** The nodes are in an overlay. @default false */
  readonly overlay?: boolean;
}

const NAT: (typeof PROGRAMS)[number] = ['nft', 'nftables'];
const WIREGUARD: (typeof PROGRAMS)[number] = ['wg', 'wireguard-tools'];
/** Where the kernel has no WireGuard. */
const WIREGUARD_GO: (typeof PROGRAMS)[number] = ['wireguard-go', 'wireguard-go'];

/** This machine cannot hold a lab; `missing` lists each thing that is not there, with what to do about it. */
export class RequirementsMissing extends Error {
  readonly code = 'REQUIREMENTS_MISSING';
  readonly missing: readonly string[];

  constructor(missing: readonly string[]) {
    super(`no lab can be made on this machine:\n${missing.map((item) => `  - ${item}`).join('\n')}`);
    this.name = 'RequirementsMissing';
    this.missing = missing;
  }
}

/** What this process lacks to make a lab, one sentence each; empty when nothing. Takes some 30 ms. */
export async function missingRequirements({ nat = false, overlay = false }: Needs = {}): Promise<string[]> {
  const missing: string[] = [];
  if (process.platform !== 'linux') return ['network namespaces: they need Linux'];
  if (process.geteuid?.() !== 0) missing.push('root: run it as root (sudo)');
  for (const program of [...PROGRAMS, ...(nat ? [NAT] : []), ...(overlay ? [WIREGUARD] : [])]) {
    missing.push(...(await missingProgram(program)));
  }
  return missing.length > 0 ? missing : await tryOut(overlay);
}

async function missingProgram([program, debianPackage]: (typeof PROGRAMS)[number]): Promise<string[]> {
  if (await onPath(program)) return [];
  return [`the program '${program}': on Debian, apt-get install ${debianPackage}`];
}

/** Root in a container may still be refused, and a kernel may be built without htb: try both. */
async function tryOut(overlay: boolean): Promise<string[]> {
  const name = `bm-try-${process.pid}-${Math.random().toString(36).slice(2, 6)}`;
  try {
    await using namespace = await createNamespace(name);
    try {
      await shape(namespace, 'lo', 1e6);
    } catch (error) {
      return [`the kernel's htb traffic shaping (CONFIG_NET_SCH_HTB): ${(error as Error).message}`];
    }
    if (!overlay) return [];
    const inKernel = namespace.ip('link', 'add', 'try', 'type', 'wireguard');
    return await inKernel.then(
      () => [],
      () => missingProgram(WIREGUARD_GO),
    );
  } catch (error) {
    return [`the right to make network namespaces (CAP_SYS_ADMIN, CAP_NET_ADMIN): ${(error as Error).message}`];
  }
}

async function onPath(program: string): Promise<boolean> {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter(Boolean);
  const found = await Promise.all(
    folders.map((folder) =>
      access(join(folder, program), constants.X_OK).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

/** @throws {RequirementsMissing} */
export async function assertRequirements(needs: Needs = {}): Promise<void> {
  const missing = await missingRequirements(needs);
  if (missing.length > 0) throw new RequirementsMissing(missing);
}
