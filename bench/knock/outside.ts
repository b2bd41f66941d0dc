import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Namespace } from '../../src/lab/namespace.ts';
import type { GeneratorPlan, KnockReport, Target } from './generator.ts';
import { limitTo, type ShareBy } from './share.ts';

const GENERATOR = fileURLToPath(new URL('./generator.ts', import.meta.url));
/** Keys and signatures of all strangers, before it has only its share; milliseconds. */
const READY_MS = 120_000;

/** The load generator, in a namespace of its own and with a share of one processor. Disposing ends it. */
export class Outside implements AsyncDisposable {
  readonly by: ShareBy;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #stack: AsyncDisposableStack;

  private constructor(facts: {
    by: ShareBy;
    child: ChildProcess;
    lines: AsyncIterator<string>;
    stack: AsyncDisposableStack;
  }) {
    this.by = facts.by;
    this.#child = facts.child;
    this.#lines = facts.lines;
    this.#stack = facts.stack;
  }

  static async open(namespace: Namespace, plan: Required<GeneratorPlan>): Promise<Outside> {
    await using stack = new AsyncDisposableStack();
    const limit = stack.use(await limitTo(plan.share, `bm-knock${process.pid}`));
    const { share, ...rest } = plan;
    const own: GeneratorPlan = limit.by === 'itself' ? { ...rest, share } : rest;
    const child = namespace.spawn([process.execPath, GENERATOR, JSON.stringify(own)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    stack.defer(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    });
    if (child.stdout === null || child.pid === undefined) throw new TypeError('the generator has no output');
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const late = setTimeout(() => child.kill('SIGKILL'), READY_MS);
    const said = await lines.next();
    clearTimeout(late);
    if (said.done) throw new Error('the generator did not start');
    await limit.add(child.pid);
    return new Outside({ by: limit.by, child, lines, stack: stack.move() });
  }

  knockAt(target: Target): void {
    this.#child.stdin?.write(`${JSON.stringify(target)}\n`);
  }

  async end(): Promise<KnockReport> {
    this.#child.stdin?.write('null\n');
    const said = await this.#lines.next();
    if (said.done) throw new Error('the generator has ended');
    return JSON.parse(said.value) as KnockReport;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
