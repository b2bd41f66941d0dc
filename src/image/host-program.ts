import { spawn } from 'node:child_process';

/** A program of the host that the image room cannot do without is missing, or failed. */
export class HostProgramError extends Error {
  override readonly name = 'HostProgramError';
  readonly code: 'PROGRAM_MISSING' | 'PROGRAM_FAILED';
  readonly program: string;
  constructor(code: 'PROGRAM_MISSING' | 'PROGRAM_FAILED', program: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.program = program;
  }
}

/** Which Debian package brings a program that we call. */
const PACKAGE_OF: Readonly<Record<string, string>> = {
  'apt-cache': 'apt',
  'apt-get': 'apt',
  depmod: 'kmod',
  'dpkg-deb': 'dpkg',
  ldd: 'libc-bin',
  mksquashfs: 'squashfs-tools',
  xz: 'xz-utils',
};
/** Where depmod is; not on everybody's path. */
const ADMINISTRATION = '/usr/sbin:/sbin';
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const ERROR_TAIL = 600;

interface RunOptions {
  readonly signal: AbortSignal;
  readonly cwd?: string;
}

/**
 * Runs a program of the host, without a shell, and returns what it printed on standard output.
 * @throws HostProgramError with the end of its standard error; the signal's reason after an abort.
 */
export async function runHostProgram(program: string, args: readonly string[], options: RunOptions): Promise<string> {
  return (await hostProgramBytes(program, args, options)).toString('utf8');
}

/** As `runHostProgram`, for output that is not text (at most 64 MiB). */
export async function hostProgramBytes(
  program: string,
  args: readonly string[],
  { signal, cwd }: RunOptions,
): Promise<Buffer> {
  signal.throwIfAborted();
  // A fixed locale and time zone: output is parsed, and images must not depend on who builds them.
  const path = `${process.env['PATH'] ?? ''}:${ADMINISTRATION}`;
  const environment = { ...process.env, LC_ALL: 'C', TZ: 'UTC', PATH: path };
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], signal, env: environment, cwd });
  const output: Buffer[] = [];
  let bytes = 0;
  let complaint = '';
  child.stdout.on('data', (piece: Buffer) => {
    bytes += piece.length;
    if (bytes <= MAX_OUTPUT_BYTES) output.push(piece);
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    complaint = (complaint + piece).slice(-ERROR_TAIL);
  });
  const code = await new Promise<number | string>((resolve, reject) => {
    child.once('error', (cause) => reject(signal.aborted ? signal.reason : missing(program, cause)));
    child.once('close', (status, killedBy) => resolve(status ?? killedBy ?? 'unknown'));
  });
  if (code === 0 && bytes <= MAX_OUTPUT_BYTES) return Buffer.concat(output);
  throw new HostProgramError('PROGRAM_FAILED', program, `${program} failed (${code}): ${complaint.trim()}`);
}

function missing(program: string, cause: Error): HostProgramError {
  const hint = PACKAGE_OF[program] === undefined ? '' : `; install Debian's package ${PACKAGE_OF[program]}`;
  return new HostProgramError('PROGRAM_MISSING', program, `cannot run ${program}: ${cause.message}${hint}`, cause);
}
