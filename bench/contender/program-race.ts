import type { Race } from '../site/contender.ts';
import { type Program, sha256File } from './program.ts';

export interface Runners {
  readonly origin: Program;
  /** In the order of the scene's nodes, each ready to start at a `go`. */
  readonly receivers: readonly Program[];
  /** Where each receiver's copy lies when it is complete. */
  readonly copies: readonly string[];
  /** The line that a receiver prints when its copy is complete. */
  readonly complete: RegExp;
  /** Payload bytes that the origin sent, where the program can tell. */
  readonly payloadSent?: () => Promise<number>;
  /** Starts a killed receiver again on the same files, where the program can resume. */
  readonly again?: (node: number) => Program;
  /** Whatever else was started, e.g. a tracker; ended with the race. */
  readonly aside?: readonly Disposable[];
}

/** A race of programs that start at a word and print a line when they are done. */
export class ProgramRace implements Race {
  readonly finished: readonly Promise<number>[];
  readonly payloadSent?: () => Promise<number>;
  readonly restart?: (node: number) => Promise<void>;
  readonly #runners: Runners;
  readonly #receivers: Program[];
  /** Programs that `kill` ended: their end is no failure. */
  readonly #killed = new Set<Program>();
  readonly #restarts = new Map<number, PromiseWithResolvers<void>>();
  readonly #over = new AbortController();
  readonly #started = Promise.withResolvers<number>();

  constructor(runners: Runners) {
    this.#runners = runners;
    this.#receivers = [...runners.receivers];
    this.finished = this.#receivers.map((_, node) => this.#finish(node));
    for (const each of this.finished) each.catch(() => undefined);
    const { payloadSent, again } = runners;
    if (payloadSent) this.payloadSent = payloadSent;
    if (again) this.restart = async (node) => this.#restart(node, again(node));
  }

  go(): void {
    this.#started.resolve(performance.now());
    for (const receiver of this.#receivers) receiver.say('go');
  }

  async sha256(node: number): Promise<string> {
    const copy = this.#runners.copies[node];
    if (copy === undefined) throw new RangeError(`the scene has no node ${node}`);
    return await sha256File(copy);
  }

  pids(): number[] {
    return [this.#runners.origin, ...this.#receivers].map(({ pid }) => pid).filter((pid) => pid !== undefined);
  }

  kill(place: 'origin' | number): void {
    const program = place === 'origin' ? this.#runners.origin : this.#receivers[place];
    if (program === undefined) throw new RangeError(`the scene has no node ${place}`);
    this.#killed.add(program);
    program.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort(new Error('the race is over'));
    const { origin, aside } = this.#runners;
    for (const each of [...this.#receivers, origin, ...(aside ?? [])]) each[Symbol.dispose]();
    for (const { reject } of this.#restarts.values()) reject(this.#over.signal.reason);
  }

  #restart(node: number, program: Program): void {
    this.#receivers[node] = program;
    program.say('go');
    this.#restarts.get(node)?.resolve();
    this.#restarts.delete(node);
  }

  async #finish(node: number): Promise<number> {
    const started = await this.#started.promise;
    for (;;) {
      const program = this.#receivers[node];
      try {
        await program?.line(this.#runners.complete, { signal: this.#over.signal });
        return performance.now() - started;
      } catch (error) {
        if (program === undefined || !this.#killed.has(program) || this.#over.signal.aborted) throw error;
      }
      if (this.#receivers[node] === program) await this.#restarted(node);
    }
  }

  #restarted(node: number): Promise<void> {
    const pending = Promise.withResolvers<void>();
    this.#restarts.set(node, pending);
    return pending.promise;
  }
}
