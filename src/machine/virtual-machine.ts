import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { SerialConsole, type SerialLine } from './serial-console.ts';

/** One network card of a machine. */
export interface NicOptions {
  /** Name of a tap device that exists in the machine's namespace. */
  readonly tap: string;
  /** @default 'virtio' */
  readonly model?: 'virtio' | 'e1000';
  /** `52:54:00:…`; QEMU's own default would be the same for every machine, so it is required. */
  readonly mac: string;
}

export interface MachineOptions {
  readonly name: string;
  /** Network namespace (`ip netns`) that QEMU runs in; the host's own when absent. */
  readonly namespace?: string;
  readonly nics: readonly NicOptions[];
  /** Guest memory in MiB. @default 1024 */
  readonly memoryMb?: number;
  /** The file that gets every byte of the serial port as it is. */
  readonly serialLog: string;
  /** A file that gets every frame the first card sends and receives, as pcap. @default none */
  readonly capture?: string;
  /** Boot from the first card's PXE ROM, or straight into a kernel. */
  readonly boot: 'pxe' | { readonly kernel: string; readonly initramfs: string; readonly cmdline: string };
  /** System UUID as firmware reports it in DHCP option 97. */
  readonly uuid?: string;
  /** Let the guest reset itself; otherwise a reset ends QEMU. @default false */
  readonly reboot?: boolean;
  /** Called with each complete line of the serial port. */
  readonly onLine?: (line: SerialLine) => void;
}

/** How QEMU ended: by itself (guest reset or power-off without `reboot`), or by a signal. */
export interface MachineExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The machine cannot start, or ended while somebody waited for it; `tail` is the end of its serial port. */
export class MachineError extends Error {
  override readonly name = 'MachineError';
  readonly code: 'MACHINE_START' | 'MACHINE_EXIT';
  readonly tail: readonly string[];
  constructor(code: 'MACHINE_START' | 'MACHINE_EXIT', message: string, tail: readonly string[] = []) {
    super(tail.length === 0 ? message : `${message}; its last lines:\n  ${tail.join('\n  ')}`);
    this.code = code;
    this.tail = tail;
  }
}

/** SeaBIOS prints this once after power-on and once after each reset. */
const FIRMWARE_BANNER = /SeaBIOS \(version/;
/** Whole Ethernet frames. */
const CAPTURE_BYTES = 1514;
const MAX_STDERR_CHARACTERS = 8192;
const TAIL_LINES = 15;

/** QEMU's command line (without the program), pure: TCG only, no disk, one serial port on standard input and output. */
export function machineArguments(options: MachineOptions): string[] {
  const pxe = options.boot === 'pxe';
  const args = [
    ...['-name', options.name, '-nodefaults', '-display', 'none', '-accel', 'tcg,thread=single'],
    // graphics=off makes SeaBIOS copy its text console, and so iPXE's, to the serial port.
    ...['-machine', 'pc,graphics=off', '-smp', '1', '-m', String(options.memoryMb ?? 1024)],
    ...['-chardev', `stdio,id=serial0,signal=off,logfile=${escaped(options.serialLog)}`],
    ...['-serial', 'chardev:serial0'],
  ];
  if (options.uuid !== undefined) args.push('-uuid', options.uuid);
  if (options.reboot !== true) args.push('-no-reboot');
  for (const [index, nic] of options.nics.entries()) {
    const device = nic.model === 'e1000' ? 'e1000' : 'virtio-net-pci';
    // Without PXE an empty romfile saves the ROM's own attempts; only the first card boots.
    const rom = !pxe || index > 0 ? ',romfile=' : `,bootindex=${index + 1}`;
    // QEMU 7.2 writes the offload header that a tap prepends into a capture, where nobody expects it.
    const offload = options.capture === undefined ? '' : ',vnet_hdr=off';
    args.push('-netdev', `tap,id=net${index},ifname=${nic.tap},script=no,downscript=no${offload}`);
    args.push('-device', `${device},netdev=net${index},mac=${nic.mac}${rom}`);
  }
  if (options.capture !== undefined) {
    args.push('-object', `filter-dump,id=capture,netdev=net0,maxlen=${CAPTURE_BYTES},file=${escaped(options.capture)}`);
  }
  if (options.boot !== 'pxe') {
    args.push('-kernel', options.boot.kernel, '-initrd', options.boot.initramfs, '-append', options.boot.cmdline);
  }
  return args;
}

/**
 * Starts a machine under QEMU. It resolves once QEMU runs; `signal` covers the start only, dispose ends the machine.
 * QEMU dies with the thread that called this, however that ends (setpriv from util-linux sets its parent-death signal).
 * @throws MachineError MACHINE_START when QEMU, setpriv or ip is missing, or QEMU refuses its options at once.
 */
export async function startMachine(
  options: MachineOptions,
  { signal }: { signal: AbortSignal },
): Promise<VirtualMachine> {
  signal.throwIfAborted();
  const qemu = ['setpriv', '--pdeathsig', 'KILL', 'qemu-system-x86_64', ...machineArguments(options)];
  // Each of these programs replaces itself by the next, so the child's pid is QEMU's own.
  const command = options.namespace === undefined ? qemu : ['ip', 'netns', 'exec', options.namespace, ...qemu];
  const child = spawn(command[0] ?? '', command.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) =>
      reject(new MachineError('MACHINE_START', `machine ${options.name} did not start: ${cause.message}`)),
    );
  });
  const machine = new VirtualMachine(options, child);
  if (!signal.aborted) return machine;
  await machine[Symbol.asyncDispose]();
  throw signal.reason;
}

/** A running machine; dispose kills QEMU by its pid and waits for its end. */
export class VirtualMachine implements AsyncDisposable {
  readonly name: string;
  /** QEMU's process id; it stays the same over guest resets. */
  readonly pid: number;
  /** When QEMU was started: milliseconds since the epoch. */
  readonly startedAt = Date.now();
  /** Settles when QEMU has ended. */
  readonly exited: Promise<MachineExit>;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #console: SerialConsole;
  readonly #ending = new AbortController();
  #firmwareStarts = 0;
  #stderr = '';

  constructor(options: MachineOptions, child: ChildProcessByStdio<Writable, Readable, Readable>) {
    this.name = options.name;
    this.pid = child.pid ?? -1;
    this.#child = child;
    this.#console = new SerialConsole((line) => {
      if (FIRMWARE_BANNER.test(line.text)) this.#firmwareStarts++;
      options.onLine?.(line);
    });
    child.stdout.setEncoding('utf8').on('data', (text: string) => this.#console.write(text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-MAX_STDERR_CHARACTERS);
    });
    child.stdin.on('error', () => {}); // Typing at a machine that has just ended: `exited` tells.
    this.exited = new Promise((resolve) => {
      child.once('close', (code, signalName) => {
        this.#ending.abort();
        resolve({ code, signal: signalName });
      });
    });
  }

  /** The serial port's last complete lines (bounded), oldest first, each with the time of its first byte. */
  get serial(): readonly SerialLine[] {
    return this.#console.lines;
  }

  /** A mark for `waitFor`'s `after`: lines printed so far lie before it. */
  get position(): number {
    return this.#console.position;
  }

  /** Resets seen so far: firmware banners after the first. 0 proves that one boot went all the way. */
  get resets(): number {
    return Math.max(0, this.#firmwareStarts - 1);
  }

  /**
   * The first line that matches, printed already (at or after position `after`) or to come. With `unfinished` the
   * line that is being written counts too: for prompts, which have no line end.
   * @throws MachineError MACHINE_EXIT when QEMU ends first; the signal's reason when that fires first.
   */
  async waitFor(
    pattern: RegExp | string,
    { signal, after = 0, unfinished = false }: { signal: AbortSignal; after?: number; unfinished?: boolean },
  ): Promise<SerialLine> {
    const wanted = typeof pattern === 'string' ? new RegExp(literal(pattern)) : stateless(pattern);
    const known = this.#console.find(wanted, { after, unfinished });
    if (known !== undefined) return known;
    signal.throwIfAborted();
    if (this.#ending.signal.aborted) throw this.#ended(wanted);
    return await new Promise<SerialLine>((resolve, reject) => {
      const leave = (): void => {
        stop();
        signal.removeEventListener('abort', onAbort);
        this.#ending.signal.removeEventListener('abort', onEnd);
      };
      const stop = this.#console.expect(wanted, unfinished, (line) => {
        leave();
        resolve(line);
      });
      const onAbort = (): void => {
        leave();
        reject(signal.reason);
      };
      const onEnd = (): void => {
        leave();
        reject(this.#ended(wanted));
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#ending.signal.addEventListener('abort', onEnd, { once: true });
    });
  }

  /** Types at the serial port. */
  type(text: string): void {
    this.#child.stdin.write(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  #ended(wanted: RegExp): MachineError {
    const tail = this.serial.slice(-TAIL_LINES).map((line) => line.text);
    if (this.#stderr !== '') tail.push(`qemu: ${this.#stderr.trim()}`);
    return new MachineError('MACHINE_EXIT', `machine ${this.name} ended before it printed ${wanted}`, tail);
  }
}

/** A regular expression with `g` or `y` remembers a place between tests; ours must not. */
function stateless(pattern: RegExp): RegExp {
  return new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ''));
}

function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** QEMU reads a comma as the end of an option's value; a doubled one stands for itself. */
function escaped(value: string): string {
  return value.replaceAll(',', ',,');
}
