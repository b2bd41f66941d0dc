import type { BootArtifact } from './release.ts';

/** A release's kernel command line cannot be used. `part` is the piece of the template at fault. */
export class CommandLineError extends Error {
  override readonly name = 'CommandLineError';
  readonly code = 'COMMAND_LINE';
  readonly part: string;
  constructor(part: string, message: string) {
    super(message);
    this.part = part;
  }
}

/** What one client's command line is filled with. */
export interface CommandLineValues {
  /** Base URL of the neighbour that serves the kernel, `http://a.b.c.d:8080`. */
  readonly neighbour: string;
  /** Base URLs of all, that one first. */
  readonly neighbours: readonly string[];
  /** `52:54:00:12:34:56`. */
  readonly mac: string;
  readonly channel: string;
  readonly version: number;
  readonly artifacts: ReadonlyMap<string, BootArtifact>;
}

/** x86 COMMAND_LINE_SIZE is 2048 with the closing NUL (asm/setup.h); longer ones are cut off by the kernel. */
const MAX_COMMAND_LINE = 2047;
/** What a template may take of it: the neighbour list and the client's own values need the rest. */
const MAX_TEMPLATE = 1024;

const PLACEHOLDER = /\{\{\s*([^{}]*?)\s*\}\}/g;
type Fill = (values: CommandLineValues) => string;

/** Names without an argument. Base URLs carry no closing slash. */
const NAMES: ReadonlyMap<string, Fill> = new Map<string, Fill>([
  ['neighbour', ({ neighbour }) => neighbour],
  ['neighbours', ({ neighbours }) => neighbours.join(',')],
  ['mac', ({ mac }) => mac],
  ['bootif', ({ mac }) => bootInterface(mac)],
  ['channel', ({ channel }) => channel],
  ['version', ({ version }) => String(version)],
]);

/** Names with an artifact as their argument: `{{artifact:rootfs}}` is its URL at the neighbour. */
const ARTIFACT_NAMES: ReadonlyMap<string, (artifact: BootArtifact, values: CommandLineValues) => string> = new Map([
  ['artifact', ({ cid }, { neighbour }) => `${neighbour}/artifact/${cid}`],
  ['cid', ({ cid }) => cid],
  ['sha256', ({ sha256 }) => sha256],
  ['size', ({ size }) => String(size)],
]);

/**
 * Checks a template against the artifacts its release has, so that a bad one is refused when it is published and not
 * when a machine boots. Known names: `{{neighbour}}`, `{{neighbours}}`, `{{mac}}`, `{{bootif}}`, `{{channel}}`,
 * `{{version}}`, and `{{artifact:NAME}}`, `{{cid:NAME}}`, `{{sha256:NAME}}`, `{{size:NAME}}`.
 * @throws CommandLineError
 */
export function checkCommandLine(template: string, artifactNames: Iterable<string>): void {
  const artifacts = new Set(artifactNames);
  if (template.length > MAX_TEMPLATE) {
    throw new CommandLineError('', `the command line has ${template.length} characters, at most ${MAX_TEMPLATE} fit`);
  }
  for (const [part, name = ''] of template.matchAll(PLACEHOLDER)) checkName(part, name, artifacts);
  const rest = template.replaceAll(PLACEHOLDER, 'x');
  const brace = /\{\{|\}\}/.exec(rest)?.[0];
  if (brace !== undefined) throw new CommandLineError(brace, `the command line has a lone '${brace}'`);
  refuseScript(rest);
}

function checkName(part: string, name: string, artifacts: ReadonlySet<string>): void {
  if (NAMES.has(name)) return;
  const [kind = '', argument] = name.split(/:(.*)/s);
  if (argument === undefined || !ARTIFACT_NAMES.has(kind)) {
    const known = [...NAMES.keys(), ...[...ARTIFACT_NAMES.keys()].map((artifactName) => `${artifactName}:NAME`)];
    throw new CommandLineError(part, `the command line's ${part} is unknown; known are ${known.join(', ')}`);
  }
  if (!artifacts.has(argument)) {
    const has = [...artifacts].join(', ');
    throw new CommandLineError(part, `the command line's ${part} names an artifact the release has not; it has ${has}`);
  }
}

/**
 * Refuses what iPXE's script parser would take for itself (iPXE core/exec.c): line ends and other control characters,
 * `${…}` expansions, and the words `||`, `&&`, `;` and `#…`.
 */
function refuseScript(text: string): void {
  const control = /[^\x20-\x7e]/.exec(text)?.[0];
  if (control !== undefined) {
    const code = `U+${(control.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
    throw new CommandLineError(control, `the command line has ${code}; only printable ASCII can be booted with`);
  }
  if (text.includes('${')) {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is what must not be there.
    throw new CommandLineError('${', "the command line has '${', which iPXE would expand; write {{name}} instead");
  }
  const word = text.split(' ').find((part) => part === '||' || part === '&&' || part === ';' || part.startsWith('#'));
  if (word !== undefined) {
    throw new CommandLineError(word, `the command line's word '${word}' would end it early: iPXE acts on it`);
  }
}

/**
 * The command line of one boot: the template filled in, then what every bootmesh initramfs needs (`initrd=initramfs`
 * for EFI stubs, `bootmesh.channel`, `bootmesh.version`, `BOOTIF` in pxelinux's form) and, as far as they fit, the neighbours.
 * @throws CommandLineError when the template is bad or the kernel could not take the result.
 */
export function fillCommandLine(template: string, values: CommandLineValues): string {
  checkCommandLine(template, values.artifacts.keys());
  const filled = template.replaceAll(PLACEHOLDER, (_, name: string) => fill(name, values)).trim();
  const fixed = [
    filled,
    'initrd=initramfs',
    `bootmesh.channel=${values.channel}`,
    // Else a channel that moves on during a boot would give one version's kernel another's rootfs.
    ...(filled.includes('bootmesh.version=') ? [] : [`bootmesh.version=${values.version}`]),
    `BOOTIF=${bootInterface(values.mac)}`,
  ].join(' ');
  let line = `${fixed} bootmesh.neighbours=${values.neighbours[0] ?? values.neighbour}`;
  for (const neighbour of values.neighbours.slice(1)) {
    if (line.length + 1 + neighbour.length <= MAX_COMMAND_LINE) line += `,${neighbour}`;
  }
  if (line.length > MAX_COMMAND_LINE) {
    throw new CommandLineError(
      '',
      `the command line comes to ${line.length} characters, Linux takes ${MAX_COMMAND_LINE}`,
    );
  }
  refuseScript(line);
  return line;
}

function fill(name: string, values: CommandLineValues): string {
  const plain = NAMES.get(name);
  if (plain !== undefined) return plain(values);
  const [kind = '', argument = ''] = name.split(/:(.*)/s);
  const artifact = values.artifacts.get(argument);
  const write = ARTIFACT_NAMES.get(kind);
  if (artifact === undefined || write === undefined) throw new CommandLineError(name, `nothing is called {{${name}}}`);
  return write(artifact, values);
}

/** The BOOTIF form of pxelinux: hardware type 1, then the address, with dashes. */
function bootInterface(mac: string): string {
  return `01-${mac.replaceAll(':', '-')}`;
}
