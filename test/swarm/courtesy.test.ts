import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Courtesy } from '../../src/swarm/courtesy.ts';

const LOOK_MS = 1_000;

/** Nodes of one segment on a clock of their own: each looks every second whether to ask, and all hear everything. */
class Segment {
  now = 0;
  questions = 0;
  answers = 0;
  readonly #nodes: { courtesy: Courtesy; lookAt: number; answerAt: number | undefined }[] = [];
  readonly #random: () => number;

  constructor(seed: number) {
    let state = seed;
    this.#random = () => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return state / 2 ** 31;
    };
  }

  /** Starts a node, whose first question leaves at once. */
  join(): void {
    const courtesy = new Courtesy({ random: this.#random }, this.now);
    this.#nodes.push({ courtesy, lookAt: this.now + LOOK_MS, answerAt: undefined });
    this.#ask();
  }

  run(ms: number): void {
    for (const end = this.now + ms; this.now < end; this.now += 5) {
      for (const node of this.#nodes) {
        if (node.answerAt !== undefined && node.answerAt <= this.now) {
          node.answerAt = undefined;
          this.answers += 1;
        }
        if (node.lookAt > this.now) continue;
        node.lookAt += LOOK_MS;
        if (node.courtesy.mayAsk(this.now)) this.#ask();
      }
    }
  }

  #ask(): void {
    this.questions += 1;
    for (const node of this.#nodes) {
      node.courtesy.asked(this.now);
      node.answerAt ??= this.now + node.courtesy.answer(this.now);
    }
  }
}

suite('courtesy', () => {
  test('a segment that has been up for a while carries one question in half a minute, and an answer of each node', () => {
    for (const nodes of [1, 16, 250]) {
      const segment = new Segment(nodes);
      for (let n = 0; n < nodes; n += 1) segment.join();
      segment.run(120_000);
      const before = { questions: segment.questions, answers: segment.answers };
      segment.run(600_000);
      const questions = segment.questions - before.questions;
      assert.ok(questions >= 10 && questions <= 24, `${questions} questions of ${nodes} nodes in ten minutes`);
      assert.ok(segment.answers - before.answers <= (questions + 1) * nodes);
    }
  });

  test('when all start at once, nobody answers twice in a second, and questions go on until all were heard', () => {
    const segment = new Segment(7);
    for (let n = 0; n < 50; n += 1) segment.join();
    segment.run(1_000);
    assert.ok(segment.answers <= 50, `${segment.answers} answers in the first second`);
    segment.run(9_000);
    assert.ok(segment.questions >= 52, 'the questions of the first second alone, when packets are lost most');
    assert.ok(segment.answers <= 50 * 10);
  });

  test('who joins later is answered within a second', () => {
    const segment = new Segment(3);
    for (let n = 0; n < 20; n += 1) segment.join();
    segment.run(300_000);
    const { answers } = segment;
    segment.join();
    segment.run(1_000);
    assert.equal(segment.answers - answers, 21);
  });
});
