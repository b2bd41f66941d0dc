/** An event is three small numbers and, for the few that need it, a value. */
export interface Event {
  time: number;
  kind: number;
  a: number;
  b: number;
  c: number;
  value: unknown;
}

const FIRST_CAPACITY = 1 << 10;

/**
 * What happens next: a 4-ary heap on typed arrays, ordered by time and then by when it was scheduled, so that equal
 * times never depend on anything but the program. Events live in slots that are used again: no garbage per event.
 */
export class EventQueue {
  /** In heap order: when, in which turn it was scheduled, and in which slot the rest is. */
  #time = new Float64Array(FIRST_CAPACITY);
  #turn = new Float64Array(FIRST_CAPACITY);
  #slot = new Int32Array(FIRST_CAPACITY);
  /** By slot. */
  #numbers = new Int32Array(4 * FIRST_CAPACITY);
  readonly #values: unknown[] = [];
  readonly #free: number[] = [];
  #size = 0;
  #turns = 0;
  readonly #event: Event = { time: 0, kind: 0, a: 0, b: 0, c: 0, value: undefined };

  get size(): number {
    return this.#size;
  }

  /** Of the earliest event; Infinity when there is none. */
  get nextTime(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : (this.#time[0] as number);
  }

  push(time: number, kind: number, a = 0, b = 0, c = 0, value: unknown = undefined): void {
    if (this.#size === this.#time.length) this.#grow();
    const slot = this.#free.pop() ?? this.#values.length;
    const at = 4 * slot;
    const numbers = this.#numbers;
    numbers[at] = kind;
    numbers[at + 1] = a;
    numbers[at + 2] = b;
    numbers[at + 3] = c;
    this.#values[slot] = value;
    this.#rise(this.#size++, time, this.#turns++, slot);
  }

  /** The earliest event, taken out; its object is used again by the next call. */
  pop(): Event | undefined {
    if (this.#size === 0) return undefined;
    const event = this.#event;
    const slot = this.#slot[0] as number;
    const at = 4 * slot;
    const numbers = this.#numbers;
    event.time = this.#time[0] as number;
    event.kind = numbers[at] as number;
    event.a = numbers[at + 1] as number;
    event.b = numbers[at + 2] as number;
    event.c = numbers[at + 3] as number;
    event.value = this.#values[slot];
    this.#values[slot] = undefined;
    this.#free.push(slot);
    this.#size -= 1;
    if (this.#size > 0) this.#sink();
    return event;
  }

  #rise(from: number, time: number, turn: number, slot: number): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 2;
      // What is scheduled now comes after all of the same time.
      if ((this.#time[parent] as number) <= time) break;
      this.#move(parent, place);
      place = parent;
    }
    this.#put(place, time, turn, slot);
  }

  /** The last one takes the place of the first. */
  #sink(): void {
    const size = this.#size;
    const [times, turns] = [this.#time, this.#turn];
    const time = times[size] as number;
    const turn = turns[size] as number;
    const slot = this.#slot[size] as number;
    let place = 0;
    for (let first = 1; first < size; first = 4 * place + 1) {
      let least = first;
      let leastTime = times[first] as number;
      const end = Math.min(first + 4, size);
      for (let child = first + 1; child < end; child += 1) {
        const other = times[child] as number;
        if (other > leastTime || (other === leastTime && (turns[child] as number) > (turns[least] as number))) continue;
        least = child;
        leastTime = other;
      }
      if (time < leastTime || (time === leastTime && turn < (turns[least] as number))) break;
      this.#move(least, place);
      place = least;
    }
    this.#put(place, time, turn, slot);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#time[from] as number, this.#turn[from] as number, this.#slot[from] as number);
  }

  #put(place: number, time: number, turn: number, slot: number): void {
    this.#time[place] = time;
    this.#turn[place] = turn;
    this.#slot[place] = slot;
  }

  #grow(): void {
    const capacity = 2 * this.#time.length;
    const larger = <A extends Int32Array | Float64Array>(array: A, into: A): A => {
      into.set(array);
      return into;
    };
    this.#time = larger(this.#time, new Float64Array(capacity));
    this.#turn = larger(this.#turn, new Float64Array(capacity));
    this.#slot = larger(this.#slot, new Int32Array(capacity));
    this.#numbers = larger(this.#numbers, new Int32Array(4 * capacity));
  }
}
