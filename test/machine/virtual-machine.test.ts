import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SerialConsole } from '../../src/machine/serial-console.ts';
import { MachineError, machineArguments, startMachine } from '../../src/machine/virtual-machine.ts';

const options = { skip: existsSync('/usr/bin/qemu-system-x86_64') ? false : 'needs qemu-system-x86', timeout: 30_000 };
const signal = (): AbortSignal => AbortSignal.timeout(20_000);
let directory: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bm-machine-'));
});
after(() => rm(directory, { recursive: true, force: true }));

test('lines are cut out of pieces of any size, freed of terminal control, and found again by position', () => {
  const seen: string[] = [];
  const port = new SerialConsole((line) => seen.push(line.text));
  for (const piece of ['\x1b[2J\x1b[1mfi', 'rst\r\nsec', 'ond\r\n', 'prompt# ']) port.write(piece);
  assert.deepEqual(seen, ['first', 'second']);
  assert.equal(port.find(/first/)?.text, 'first');
  assert.equal(port.find(/first/, { after: 1 }), undefined);
  assert.equal(port.find(/prompt/), undefined, 'an unfinished line may be cut anywhere');
  assert.equal(port.find(/prompt#/, { unfinished: true })?.text, 'prompt# ');
});

test('memory of lines stays bounded, and positions keep their meaning', () => {
  const port = new SerialConsole();
  for (let index = 0; index < 10_000; index++) port.write(`line ${index}\n`);
  port.write('x'.repeat(1e6));
  assert.ok(port.lines.length <= 4000);
  assert.equal(port.position, 10_000);
  assert.equal(port.find(/^line/, { after: 9_999 })?.text, 'line 9999');
  assert.ok((port.find(/x/, { unfinished: true })?.text.length ?? 0) <= 4096);
});

test('a machine has no disk, no acceleration but TCG, and boots from its first card alone', () => {
  const nics = ['a', 'b'].map((tap, index) => ({ tap, mac: `52:54:00:00:00:0${index}` }));
  const line = machineArguments({ name: 'm', nics, serialLog: '/a,b', boot: 'pxe' }).join(' ');
  assert.match(line, /-accel tcg/);
  assert.doesNotMatch(line, /-drive|-hd|-cdrom/);
  assert.match(line, /virtio-net-pci,netdev=net0,mac=52:54:00:00:00:00,bootindex=1/);
  assert.match(line, /netdev=net1,mac=52:54:00:00:00:01,romfile=/);
  assert.match(line, /logfile=\/a,,b/);
});

test('firmware speaks on the serial port, waits end as they should, and dispose ends QEMU', options, async () => {
  const serialLog = join(directory, 'serial.log');
  const machine = await startMachine(
    { name: 'm', nics: [], memoryMb: 64, serialLog, boot: 'pxe' },
    { signal: signal() },
  );
  const started = Date.now();
  const banner = await machine.waitFor(/SeaBIOS/, { signal: signal() });
  assert.ok(banner.at >= machine.startedAt - 1000 && banner.at <= Date.now() && banner.at - started < 20_000);
  assert.equal(machine.resets, 0);
  await assert.rejects(machine.waitFor(/never/, { signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' });
  const waiting = machine.waitFor('never', { signal: signal() });
  await Promise.all([
    assert.rejects(waiting, (error) => error instanceof MachineError && error.code === 'MACHINE_EXIT'),
    machine[Symbol.asyncDispose](),
  ]);
  assert.throws(() => process.kill(machine.pid, 0), { code: 'ESRCH' });
  assert.match(await readFile(serialLog, 'utf8'), /SeaBIOS/);
});

test('options that QEMU refuses end the wait with its own words', options, async () => {
  const nics = [{ tap: 'bm-no-such-tap', mac: 'nonsense' }];
  await using machine = await startMachine(
    { name: 'm', nics, serialLog: join(directory, 'refused.log'), boot: 'pxe' },
    { signal: signal() },
  );
  await assert.rejects(machine.waitFor(/SeaBIOS/, { signal: signal() }), /qemu: .*(bm-no-such-tap|nonsense)/s);
});

test('QEMU dies with the process that started it, even by SIGKILL', options, async () => {
  const module = new URL('../../src/machine/virtual-machine.ts', import.meta.url).href;
  const script = `
    const { startMachine } = await import(${JSON.stringify(module)});
    const machine = await startMachine(
      { name: 'orphan', nics: [], memoryMb: 64, serialLog: ${JSON.stringify(join(directory, 'orphan.log'))}, boot: 'pxe' },
      { signal: AbortSignal.timeout(10000) });
    await machine.waitFor('SeaBIOS', { signal: AbortSignal.timeout(10000) });
    console.log(machine.pid);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [text] = (await once(parent.stdout, 'data', { signal: signal() })) as [Buffer];
  const pid = Number(text.toString());
  assert.ok(pid > 1);
  process.kill(pid, 0);
  parent.kill('SIGKILL');
  await once(parent, 'close');
  const deadline = Date.now() + 5000;
  while (isRunning(pid) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(isRunning(pid), false);
});

/** An orphan that has ended may stay a zombie for a while when nobody adopts it. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return !/^State:\s+Z/m.test(processStatus(pid));
}

function processStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return 'State:\tZ';
  }
}
