import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { ChunkSizes } from '../content/chunker.ts';
import type { Cutters, FilePart } from './cutters.ts';
import type { Answer, Question } from './cutting-worker.ts';
import { Cut, type CutTask, type Packed, type PackTask } from './region.ts';

/** More than four cores' worth of cutting is faster than any disk that we know. */
export const WORKERS = Math.min(4, availableParallelism());

// Beside this file, in a checkout and in a published package alike.
const PROGRAM = new URL(import.meta.url.replace('worker-threads', 'cutting-worker'));

interface Waiting {
  readonly question: Question;
  readonly answer: PromiseWithResolvers<Answer>;
}

/** Cuts on threads of its own. Questions are answered in the order in which they were asked, urgent ones first. */
export class WorkerThreads implements Cutters {
  readonly #idle: Worker[] = [];
  readonly #workers: Worker[];
  readonly #waiting: Waiting[] = [];
  readonly #asked = new Map<Worker, Waiting>();
  #failure: Error | undefined;

  constructor(sizes: ChunkSizes) {
    this.#workers = Array.from({ length: WORKERS }, () => new Worker(PROGRAM, { workerData: sizes }));
    for (const worker of this.#workers) {
      worker.on('message', (answer: Answer) => this.#answered(worker, answer));
      worker.on('error', (error) => this.#fail(error as Error));
      worker.on('exit', () => this.#fail(new Error('a thread that cuts has ended')));
      this.#idle.push(worker);
    }
  }

  async cut(task: CutTask, file?: FilePart): Promise<Cut> {
    const { cut } = await this.#ask({ cut: task, file }, task.known.length > 0);
    if (!cut) throw new Error('a thread that cuts gave no cut');
    return new Cut(cut);
  }

  async pack(task: PackTask): Promise<Packed> {
    const { packed } = await this.#ask({ pack: task }, false);
    if (!packed) throw new Error('a thread that cuts gave no frames');
    return packed;
  }

  async #ask(question: Question, urgent: boolean): Promise<Answer> {
    if (this.#failure) throw this.#failure;
    const waiting = { question, answer: Promise.withResolvers<Answer>() };
    if (urgent) this.#waiting.unshift(waiting);
    else this.#waiting.push(waiting);
    this.#post();
    const answer = await waiting.answer.promise;
    if (answer.error) throw Object.assign(answer.error, answer.code && { code: answer.code });
    return answer;
  }

  #post(): void {
    while (this.#waiting.length > 0) {
      const worker = this.#idle.pop();
      if (!worker) return;
      const waiting = this.#waiting.shift() as Waiting;
      this.#asked.set(worker, waiting);
      worker.postMessage(waiting.question);
    }
  }

  #answered(worker: Worker, answer: Answer): void {
    this.#asked.get(worker)?.answer.resolve(answer);
    this.#asked.delete(worker);
    this.#idle.push(worker);
    this.#post();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { answer } of [...this.#asked.values(), ...this.#waiting.splice(0)]) answer.reject(this.#failure);
    this.#asked.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new Error('the import is over'));
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
