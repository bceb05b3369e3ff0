import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { Event, EventPage } from "../src/lib/api-types.ts";
import { type Frame, LiveStream, SeqGate, SILENCE_MS, SseParser, type StreamState } from "../src/lib/stream.ts";

const event = (seq: number): Event => ({ session: "ses_x", seq, at: "", epoch: 1, kind: "usage", body: {} });

describe("SseParser", () => {
  const text = ': ping\n\nid: 7\nevent: event\ndata: {"a":\ndata: 1}\n\nevent: hello\r\ndata: x\r\n\r\ndata\n\n';

  test("reads frames, comments, line ends and several data lines", () => {
    expect(new SseParser().push(text)).toEqual([
      { event: "event", id: "7", data: '{"a":\n1}' },
      { event: "hello", id: "7", data: "x" },
      { event: "message", id: "7", data: "" },
    ]);
  });

  test("gives the same however the bytes are cut", () => {
    const whole = new SseParser().push(text);
    for (let size = 1; size < text.length; size += 1) {
      const parser = new SseParser();
      const frames: Frame[] = [];
      for (let at = 0; at < text.length; at += size) frames.push(...parser.push(text.slice(at, at + size)));
      expect(frames).toEqual(whole);
    }
  });
});

describe("SeqGate", () => {
  function setup(last: number, log: number) {
    const applied: number[] = [];
    const asked: number[] = [];
    const broken = vi.fn();
    let answer = async (after: number): Promise<EventPage> => ({
      events: Array.from({ length: Math.min(3, log - after) }, (_, i) => event(after + 1 + i)),
      last_seq: log,
    });
    const gate = new SeqGate({
      last,
      fetchAfter: (after) => {
        asked.push(after);
        return answer(after);
      },
      apply: (events) => applied.push(...events.map((entry) => entry.seq)),
      onBroken: broken,
    });
    return { gate, applied, asked, broken, fail: () => (answer = async () => Promise.reject(new Error("down"))) };
  }

  test("passes events in order and drops what it had", () => {
    const { gate, applied, asked } = setup(2, 10);
    for (const seq of [1, 2, 3, 3, 4, 2, 5]) gate.push(event(seq));
    expect(applied).toEqual([3, 4, 5]);
    expect(asked).toEqual([]);
  });

  test("fetches a gap, several pages if need be, and loses nothing that arrives meanwhile", async () => {
    const { gate, applied, asked } = setup(2, 12);
    gate.push(event(11));
    gate.push(event(12));
    gate.push(event(11));
    await vi.waitFor(() => expect(applied.at(-1)).toBe(12));
    expect(applied).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(asked).toEqual([2, 5, 8]);
    gate.push(event(13));
    expect(gate.last).toBe(13);
  });

  test("a second gap is filled like the first", async () => {
    const { gate, applied } = setup(0, 9);
    gate.push(event(3));
    gate.push(event(9));
    await vi.waitFor(() => expect(gate.last).toBe(9));
    expect(applied).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("tells when a gap cannot be filled, and can go on from where it was", async () => {
    const { gate, applied, broken, fail } = setup(2, 12);
    fail();
    gate.push(event(9));
    await vi.waitFor(() => expect(broken).toHaveBeenCalledOnce());
    expect(gate.last).toBe(2);
    gate.push(event(3));
    expect(applied).toEqual([3]);
  });

  test("a server that lacks the gap does not make it spin", async () => {
    const { gate, broken } = setup(5, 5);
    gate.push(event(9));
    await vi.waitFor(() => expect(broken).toHaveBeenCalledOnce());
  });
});

describe("LiveStream", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A server whose connections the test holds in its hands. */
  function setup() {
    const urls: string[] = [];
    const connections: { write(text: string): void; end(): void; aborted: boolean }[] = [];
    const states: StreamState[] = [];
    const frames: Frame[] = [];
    let status = 200;
    let last = 0;
    const signedOut = vi.fn();
    const refused = vi.fn();
    const fetcher = (async (url: string, init: RequestInit) => {
      urls.push(url);
      if (status === 0) throw new TypeError("down");
      if (status !== 200) return new Response("{}", { status });
      let controller!: ReadableStreamDefaultController<Uint8Array>;
      const body = new ReadableStream<Uint8Array>({ start: (c) => void (controller = c) });
      const connection = {
        write: (text: string) => controller.enqueue(new TextEncoder().encode(text)),
        end: () => controller.close(),
        aborted: false,
      };
      init.signal?.addEventListener("abort", () => {
        connection.aborted = true;
        try {
          controller.error(new DOMException("aborted", "AbortError"));
        } catch {
          // It had ended.
        }
      });
      connections.push(connection);
      return new Response(body, { status: 200 });
    }) as typeof fetch;
    const stream = new LiveStream({
      url: () => `/stream?after=${last}`,
      onFrame: (frame) => {
        frames.push(frame);
        if (frame.event === "event") last = Number(frame.id);
      },
      onState: (state) => states.push(state),
      onSignedOut: signedOut,
      onRefused: refused,
      fetch: fetcher,
      random: () => 1,
    });
    const settle = () => vi.advanceTimersByTimeAsync(0);
    return { stream, urls, connections, states, frames, settle, signedOut, refused, answer: (code: number) => (status = code) };
  }

  test("resumes after the last event when the connection ends", async () => {
    const { stream, urls, connections, states, settle } = setup();
    stream.open();
    await settle();
    connections[0]?.write("event: hello\ndata: {}\n\nid: 4\nevent: event\ndata: {}\n\n");
    await settle();
    connections[0]?.end();
    await settle();
    expect(stream.state).toBe("waiting");
    await vi.advanceTimersByTimeAsync(250);
    connections[1]?.write(": ping\n\n");
    await settle();
    expect(urls).toEqual(["/stream?after=0", "/stream?after=4"]);
    expect(states).toEqual(["connecting", "live", "waiting", "connecting", "live"]);
  });

  test("takes 45 s without a byte for a dead connection; a ping is a byte", async () => {
    const { stream, urls, connections, settle } = setup();
    stream.open();
    await settle();
    for (let i = 0; i < 5; i += 1) {
      connections[0]?.write(": ping\n\n");
      await vi.advanceTimersByTimeAsync(SILENCE_MS - 1000);
    }
    expect(urls).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(2000);
    expect(connections[0]?.aborted).toBe(true);
    await vi.advanceTimersByTimeAsync(1000);
    expect(urls).toHaveLength(2);
  });

  test("backs off, and comes back at once when woken", async () => {
    const { stream, urls, answer } = setup();
    answer(0);
    stream.open();
    const at: number[] = [];
    const start = Date.now();
    while (urls.length < 6) {
      const known = urls.length;
      await vi.advanceTimersByTimeAsync(50);
      if (urls.length > known) at.push(Date.now() - start);
    }
    const waits = at.map((time, i) => time - (at[i - 1] ?? 0)).slice(1);
    expect(waits).toEqual([500, 1000, 2000, 4000]);
    answer(200);
    const known = urls.length;
    stream.wake();
    expect(urls).toHaveLength(known + 1);
  });

  test("waking a healthy stream changes nothing, waking a stale one connects anew", async () => {
    const { stream, urls, connections, settle } = setup();
    stream.open();
    await settle();
    connections[0]?.write(": ping\n\n");
    await settle();
    stream.wake();
    expect(urls).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(25_000);
    stream.wake();
    expect(urls).toHaveLength(2);
  });

  test("stops at 401", async () => {
    const { stream, urls, settle, signedOut, answer } = setup();
    answer(401);
    stream.open();
    await settle();
    expect(signedOut).toHaveBeenCalledOnce();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(urls).toHaveLength(1);
    expect(stream.state).toBe("closed");
  });

  test("an old connection cannot speak after a new one was opened", async () => {
    const { stream, connections, frames, settle } = setup();
    stream.open();
    await settle();
    stream.open();
    await settle();
    expect(connections[0]?.aborted).toBe(true);
    connections[1]?.write("event: hello\ndata: 2\n\n");
    await settle();
    expect(frames.map((frame) => frame.data)).toEqual(["2"]);
  });

  test("a refusal is told and tried again", async () => {
    const { stream, urls, settle, refused, answer } = setup();
    answer(503);
    stream.open();
    await settle();
    expect(refused).toHaveBeenCalledOnce();
    await vi.advanceTimersByTimeAsync(300);
    expect(urls).toHaveLength(2);
  });
});
