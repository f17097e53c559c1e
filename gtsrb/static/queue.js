// Rows wait here for their answers: { file, name, answer }. Batch by batch they go to the server.
import { readable } from "./files.js";
import { predict } from "./service.js";

const BATCH = { files: 50, bytes: 16 * 2 ** 20 };        // one request: small enough for a progress bar that moves
const SMALLER = new Set([400, 408, 413, 422, 504]);      // refused as a whole: fewer files at a time may pass

export class Queue {
  constructor({ answered, changed, waiting }) {
    Object.assign(this, { answered, changed, waiting, rows: [], size: BATCH.files, running: null, trouble: null });
    this.total = this.done = 0;
  }

  add(rows) {
    if (!this.rows.length && !this.running) this.total = this.done = 0;
    this.rows.push(...rows);
    this.total += rows.length;
    return this.go();
  }

  async go() {
    if (this.running || !this.rows.length) return;
    const running = this.running = new AbortController();
    this.trouble = null;
    this.began = performance.now();
    this.before = this.done;
    this.changed();
    try { while (this.rows.length) await this.next(running.signal); }
    catch (e) { if (this.running === running) this.trouble = e; }
    if (this.running !== running) return;                // cleared meanwhile
    this.running = null;
    this.changed();
  }

  stop() { this.running?.abort(); }

  clear() {
    this.stop();
    this.running = this.trouble = null;
    this.rows = [];
    this.total = this.done = 0;
  }

  get secondsLeft() {
    const seconds = (performance.now() - this.began) / 1000, done = this.done - this.before;
    return seconds > 2 && done ? Math.ceil(seconds / done * (this.total - this.done)) : 0;
  }

  take() {
    const batch = []; let bytes = 0;
    for (const row of this.rows) {
      bytes += row.file.size;
      if (batch.length && (batch.length >= this.size || bytes > BATCH.bytes)) break;
      batch.push(row);
    }
    return batch;
  }

  settle(row, answer) {
    row.answer = answer;
    this.done++;
    this.answered(row);
  }

  async next(signal) {
    const batch = this.take();
    let settled = batch;
    try {
      const answers = await predict(batch.map(row => row.file), { signal, waiting: this.waiting });
      signal.throwIfAborted();                           // stopped in the last moment
      batch.forEach((row, i) => this.settle(row, answers[i]));
    } catch (e) {
      if (signal.aborted) throw e;
      settled = await this.refused(batch, e);
    }
    this.rows = this.rows.filter(row => !settled.includes(row));
    this.changed();
  }

  async refused(batch, e) {                              // -> the rows that are settled all the same; throws where no row is to blame
    if (e.code === "no_connection") {
      const there = await Promise.all(batch.map(row => readable(row.file))), gone = batch.filter((_, i) => !there[i]);
      if (!gone.length) throw e;
      for (const row of gone) this.settle(row, { error: { code: "unreadable_file", message: "the browser cannot read it" } });
      return gone;
    }
    if (!SMALLER.has(e.status)) throw e;
    if (batch.length > 1) { this.size = Math.ceil(batch.length / 2); return []; }
    this.size = BATCH.files;                             // it was this one; the others may go together again
    if (e.status === 504) throw e;
    this.settle(batch[0], { error: { code: e.code, message: e.message } });
    return batch;
  }
}
