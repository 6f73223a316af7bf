"""Tiny harness: each suite registers cases; prints 'suite/case: pass|fail: reason' and ends 'N of M pass'."""
import os, re, sys, time, uuid, signal, traceback

BOOT = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BOOTSTRAP", "127.0.0.1:9092")
SASL_BOOT = os.environ.get("SASL_BOOTSTRAP", "")          # optional SASL_PLAINTEXT listener
PLAIN_USER, PLAIN_PASS = os.environ.get("SASL_PLAIN", "alice:alice-secret").split(":")
NOT_YET = os.environ.get("NOT_YET", "")                     # cases of features still to come
RUN = uuid.uuid4().hex[:8]


class Skip(Exception):
    pass


class Timeout(Exception):
    pass


class Suite:
    def __init__(self, name):
        self.name, self.cases = name, []

    def case(self, name, limit=60):
        def deco(f):
            self.cases.append((name, f, limit))
            return f
        return deco

    def run(self):
        pat = re.compile(os.environ.get("CASES", "."))
        ok = bad = skip = 0

        def on_alarm(*_):
            raise Timeout("case timed out")
        signal.signal(signal.SIGALRM, on_alarm)
        for name, f, limit in self.cases:
            if not pat.search(name):
                continue
            if NOT_YET and re.search(NOT_YET, name):
                skip += 1
                print(f"{self.name}/{name}: skip: not yet in StreamBus", flush=True)
                continue
            t0 = time.time()
            signal.alarm(limit)
            try:
                f()
                signal.alarm(0)
                ok += 1
                print(f"{self.name}/{name}: pass ({time.time()-t0:.1f}s)", flush=True)
            except Skip as e:
                signal.alarm(0)
                skip += 1
                print(f"{self.name}/{name}: skip: {e}", flush=True)
            except BaseException as e:
                signal.alarm(0)
                if isinstance(e, KeyboardInterrupt):
                    raise
                bad += 1
                if os.environ.get("TRACE"):
                    traceback.print_exc()
                msg = " ".join(f"{type(e).__name__}: {e}".split())[:300]
                print(f"{self.name}/{name}: fail: {msg}", flush=True)
        print(f"{self.name}: {'pass' if not bad else 'fail'}: {ok} of {ok+bad} pass, {skip} skipped", flush=True)
        sys.stdout.flush()
        os._exit(1 if bad else 0)


def tname(s):
    return f"smoke-{RUN}-{s}"


def until(cond, secs=20, what="condition", step=0.1):
    end = time.time() + secs
    while time.time() < end:
        v = cond()
        if v:
            return v
        time.sleep(step)
    raise AssertionError(f"{what} not reached in {secs}s")
