// franz-go smoke. usage: go run . BOOTSTRAP ; env CASES=regex SASL_BOOTSTRAP SASL_PLAIN=user:pass
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

type tc struct {
	name string
	f    func(ctx context.Context)
}

var (
	boot  string
	run   = fmt.Sprintf("%08x", rand.Uint32())
	adm   *kadm.Client
	cases []tc
)

type skip string

func tn(s string) string { return "smoke-" + run + "-" + s }
func must(err error) {
	if err != nil {
		panic(err)
	}
}
func check(b bool, f string, a ...any) {
	if !b {
		panic(fmt.Errorf("check failed: "+f, a...))
	}
}
func def(n string, f func(context.Context)) { cases = append(cases, tc{n, f}) }
func until(secs int, what string, f func() bool) {
	end := time.Now().Add(time.Duration(secs) * time.Second)
	for time.Now().Before(end) {
		if f() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	panic(fmt.Errorf("%s not reached in %ds", what, secs))
}
func client(o ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(boot, ",")...)}, o...)...)
	must(err)
	return c
}
func mk(ctx context.Context, s string, parts int32, cfg map[string]*string) string {
	n := tn(s)
	_, err := adm.CreateTopic(ctx, parts, 1, cfg, n)
	must(err)
	until(10, "topic", func() bool {
		m, err := adm.ListTopics(ctx, n)
		return err == nil && len(m[n].Partitions) == int(parts) && m[n].Err == nil
	})
	return n
}
func prod(ctx context.Context, topic string, n int, o ...kgo.Opt) {
	c := client(append(o, kgo.DefaultProduceTopic(topic))...)
	defer c.Close()
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, &kgo.Record{Key: []byte(fmt.Sprint("k", i)), Value: []byte(fmt.Sprint("v", i))})
	}
	must(c.ProduceSync(ctx, rs...).FirstErr())
}
func read(ctx context.Context, c *kgo.Client, n int, extra time.Duration) (out []*kgo.Record) {
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	for len(out) < n && ctx.Err() == nil {
		fs := c.PollFetches(ctx)
		for _, e := range fs.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				panic(e.Err)
			}
		}
		out = append(out, fs.Records()...)
	}
	end := time.Now().Add(extra)
	for time.Now().Before(end) {
		c2, cc := context.WithDeadline(context.Background(), end)
		out = append(out, c.PollFetches(c2).Records()...)
		cc()
	}
	check(len(out) >= n, "got %d of %d records", len(out), n)
	return out
}
func readAll(ctx context.Context, t string, n int, extra time.Duration, o ...kgo.Opt) []*kgo.Record {
	c := client(append(o, kgo.ConsumeTopics(t), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	defer c.Close()
	return read(ctx, c, n, extra)
}

type member struct {
	c    *kgo.Client
	have atomic.Int32
	stop context.CancelFunc
}

func join(topic, group string, o ...kgo.Opt) *member {
	m := &member{}
	cnt := func(d int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, a map[string][]int32) { m.have.Add(int32(d * len(a[topic]))) }
	}
	m.c = client(append(o, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.OnPartitionsAssigned(cnt(1)), kgo.OnPartitionsRevoked(cnt(-1)), kgo.OnPartitionsLost(cnt(-1)))...)
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	go func() {
		for ctx.Err() == nil {
			m.c.PollFetches(ctx)
		}
	}()
	return m
}
func (m *member) close() { m.stop(); m.c.Close() }
func rebalance(ctx context.Context, tag string, o ...kgo.Opt) {
	t, g := mk(ctx, "reb-"+tag, 4, nil), tn("reb-"+tag)
	a := join(t, g, o...)
	until(40, "member 1 owns 4", func() bool { return a.have.Load() == 4 })
	b := join(t, g, o...)
	until(60, "2+2", func() bool { return a.have.Load() == 2 && b.have.Load() == 2 })
	b.close()
	until(60, "4 again", func() bool { return a.have.Load() == 4 })
	a.close()
}
func sp(s string) *string { return &s }

func main() {
	boot = os.Args[1]
	adm = kadm.NewClient(client())
	def("metadata-and-api-versions", func(ctx context.Context) {
		m, err := adm.BrokerMetadata(ctx)
		must(err)
		check(len(m.Brokers) > 0 && m.Cluster != "" && m.Controller >= 0, "%v", m)
		v, err := adm.ApiVersions(ctx)
		must(err)
		check(len(v) > 0, "no versions")
	})
	def("create-list-delete-topics", func(ctx context.Context) {
		t := mk(ctx, "cld", 3, nil)
		_, err := adm.CreateTopic(ctx, 3, 1, nil, t)
		check(errors.Is(err, kerr.TopicAlreadyExists), "%v", err)
		_, err = adm.DeleteTopic(ctx, t)
		must(err)
		until(10, "gone", func() bool { m, _ := adm.ListTopics(ctx); return !m.Has(t) })
	})
	def("create-partitions", func(ctx context.Context) {
		t := mk(ctx, "cp", 1, nil)
		r, err := adm.UpdatePartitions(ctx, 4, t)
		must(err)
		must(r.Error())
		until(10, "4", func() bool { m, _ := adm.ListTopics(ctx, t); return len(m[t].Partitions) == 4 })
	})
	for n, cd := range map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()} {
		def("codec-"+n, func(ctx context.Context) {
			t := mk(ctx, "codec-"+n, 1, nil)
			prod(ctx, t, 500, kgo.ProducerBatchCompression(cd))
			for i, r := range readAll(ctx, t, 500, 0) {
				check(string(r.Value) == fmt.Sprint("v", i), "%d %s", i, r.Value)
			}
		})
	}
	def("headers-timestamps-tombstones", func(ctx context.Context) {
		t := mk(ctx, "kht", 1, nil)
		c := client()
		defer c.Close()
		must(c.ProduceSync(ctx, &kgo.Record{Topic: t, Key: []byte("k"), Value: []byte("v"), Timestamp: time.UnixMilli(1700000000123), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "n"}}}).FirstErr())
		must(c.ProduceSync(ctx, &kgo.Record{Topic: t, Key: []byte("k")}).FirstErr())
		r := readAll(ctx, t, 2, 0)
		check(r[0].Timestamp.UnixMilli() == 1700000000123 && len(r[0].Headers) == 2 && r[1].Value == nil, "%v", r)
	})
	def("group-rebalance-eager-range", func(ctx context.Context) { rebalance(ctx, "range", kgo.Balancers(kgo.RangeBalancer())) })
	def("group-rebalance-cooperative", func(ctx context.Context) { rebalance(ctx, "coop", kgo.Balancers(kgo.CooperativeStickyBalancer())) })
	def("group-rebalance-kip848", func(ctx context.Context) {
		rebalance(context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true), "k848", kgo.WithContext(context.WithValue(context.Background(), "opt_in_kafka_next_gen_balancer_beta", true)))
	})
	def("commit-and-resume", func(ctx context.Context) {
		t, g := mk(ctx, "cr", 1, nil), tn("cr")
		prod(ctx, t, 20)
		o := []kgo.Opt{kgo.ConsumerGroup(g), kgo.ConsumeTopics(t), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
		c := client(o...)
		rs := read(ctx, c, 20, 0)
		must(c.CommitRecords(ctx, rs[7]))
		c.Close()
		c = client(o...)
		rs = read(ctx, c, 12, 0)
		check(rs[0].Offset == 8, "%d", rs[0].Offset)
		c.Close()
		of, err := adm.FetchOffsets(ctx, g)
		must(err)
		x, _ := of.Lookup(t, 0)
		check(x.At == 8, "%v", x)
		dl, err := adm.DescribeGroups(ctx, g)
		must(err)
		check(dl[g].State == "Empty", "%v", dl[g].State)
		_, err = adm.DeleteGroup(ctx, g)
		must(err)
	})
	def("list-offsets", func(ctx context.Context) {
		t := mk(ctx, "oft", 1, nil)
		c := client()
		defer c.Close()
		for i := range 20 {
			must(c.ProduceSync(ctx, &kgo.Record{Topic: t, Value: []byte("x"), Timestamp: time.UnixMilli(1700000000000 + int64(i)*1000)}).FirstErr())
		}
		l, err := adm.ListOffsetsAfterMilli(ctx, 1700000007500, t)
		must(err)
		check(l[t][0].Offset == 8, "%v", l)
		e, err := adm.ListEndOffsets(ctx, t)
		must(err)
		check(e[t][0].Offset == 20, "%v", e)
		m, err := adm.ListMaxTimestampOffsets(ctx, t)
		must(err)
		check(m[t][0].Offset == 19, "%v", m)
	})
	def("delete-records", func(ctx context.Context) {
		t := mk(ctx, "dr", 1, nil)
		prod(ctx, t, 30)
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: t, Partition: 0, At: 12})
		r, err := adm.DeleteRecords(ctx, o)
		must(err)
		must(r.Error())
		check(readAll(ctx, t, 18, 0)[0].Offset == 12, "first")
	})
	def("configs-describe-alter", func(ctx context.Context) {
		t := mk(ctx, "cfg", 1, map[string]*string{"retention.ms": sp("3600000")})
		get := func() string {
			r, err := adm.DescribeTopicConfigs(ctx, t)
			must(err)
			for _, c := range r[0].Configs {
				if c.Key == "retention.ms" {
					return c.MaybeValue()
				}
			}
			return ""
		}
		check(get() == "3600000", "%s", get())
		_, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: sp("7200000")}}, t)
		must(err)
		until(10, "altered", func() bool { return get() == "7200000" })
	})
	def("acls", func(ctx context.Context) {
		b := kadm.NewACLs().Topics(tn("acl")).Allow("User:smoke").AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral)
		_, err := adm.CreateACLs(ctx, b)
		must(err)
		until(10, "acl", func() bool { r, e := adm.DescribeACLs(ctx, b); return e == nil && len(r) == 1 && len(r[0].Described) == 1 })
		_, err = adm.DeleteACLs(ctx, b)
		must(err)
		until(10, "no acl", func() bool { r, e := adm.DescribeACLs(ctx, b); return e == nil && len(r[0].Described) == 0 })
	})
	def("scram-and-sasl-login", func(ctx context.Context) {
		u := tn("u")
		r, err := adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: u, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "pw"}})
		must(err)
		must(r.Error())
		until(10, "described", func() bool { d, e := adm.DescribeUserSCRAMs(ctx, u); return e == nil && len(d[u].CredInfos) == 1 })
		sb := os.Getenv("SASL_BOOTSTRAP")
		if sb == "" {
			panic(skip("SASL_BOOTSTRAP not set"))
		}
		time.Sleep(500 * time.Millisecond)
		up := strings.Split(os.Getenv("SASL_PLAIN")+"alice:alice-secret", ":")
		for _, o := range []kgo.Opt{kgo.SASL(scram.Auth{User: u, Pass: "pw"}.AsSha256Mechanism()), kgo.SASL(plain.Auth{User: up[0], Pass: up[1]}.AsMechanism())} {
			c, err := kgo.NewClient(kgo.SeedBrokers(sb), o)
			must(err)
			must(c.Ping(ctx))
			c.Close()
		}
	})
	def("transactions-read-committed", func(ctx context.Context) {
		t := mk(ctx, "txn", 2, nil)
		c := client(kgo.TransactionalID(tn("fgt")), kgo.DefaultProduceTopic(t))
		for _, s := range []string{"A", "B", "C"} {
			must(c.BeginTransaction())
			for i := range 10 {
				c.Produce(ctx, &kgo.Record{Key: []byte(fmt.Sprint(i)), Value: []byte(s)}, nil)
			}
			must(c.Flush(ctx))
			must(c.EndTransaction(ctx, kgo.TransactionEndTry(s != "B")))
		}
		c.Close()
		rs := readAll(ctx, t, 20, 700*time.Millisecond, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		check(len(rs) == 20, "%d", len(rs))
		for _, r := range rs {
			check(string(r.Value) != "B", "aborted record seen")
		}
		check(len(readAll(ctx, t, 30, 300*time.Millisecond)) == 30, "uncommitted")
	})
	def("group-transact-session-eos", func(ctx context.Context) {
		a, b, g := mk(ctx, "eosi", 1, nil), mk(ctx, "eoso", 1, nil), tn("eos")
		prod(ctx, a, 50)
		s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(strings.Split(boot, ",")...), kgo.ConsumerGroup(g), kgo.ConsumeTopics(a), kgo.TransactionalID(tn("gts")), kgo.DefaultProduceTopic(b), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequireStableFetchOffsets(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		must(err)
		n := 0
		for n < 50 {
			fs := s.PollFetches(ctx)
			must(fs.Err())
			must(s.Begin())
			fs.EachRecord(func(r *kgo.Record) { n++; s.Produce(ctx, &kgo.Record{Value: r.Value}, nil) })
			ok, err := s.End(ctx, kgo.TryCommit)
			must(err)
			check(ok, "not committed")
		}
		s.Close()
		check(len(readAll(ctx, b, 50, 300*time.Millisecond, kgo.FetchIsolationLevel(kgo.ReadCommitted()))) == 50, "50 out")
	})
	ok, bad, sk := 0, 0, 0
	pat := regexp.MustCompile(os.Getenv("CASES"))
	for _, c := range cases {
		if !pat.MatchString(c.name) {
			continue
		}
		if not := os.Getenv("NOT_YET"); not != "" && regexp.MustCompile(not).MatchString(c.name) {
			sk++
			fmt.Printf("go/%s: skip: not yet in StreamBus\n", c.name)
			continue
		}
		t0 := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
		done := make(chan any, 1)
		go func() {
			defer func() { done <- recover() }()
			c.f(ctx)
		}()
		var r any
		select {
		case r = <-done:
		case <-ctx.Done():
			r = errors.New("case timed out")
		}
		cancel()
		switch v := r.(type) {
		case nil:
			ok++
			fmt.Printf("go/%s: pass (%.1fs)\n", c.name, time.Since(t0).Seconds())
		case skip:
			sk++
			fmt.Printf("go/%s: skip: %s\n", c.name, string(v))
		default:
			bad++
			fmt.Printf("go/%s: fail: %.300s\n", c.name, strings.Join(strings.Fields(fmt.Sprint(v)), " "))
		}
	}
	st := "pass"
	if bad > 0 {
		st = "fail"
	}
	fmt.Printf("go: %s: %d of %d pass, %d skipped\n", st, ok, ok+bad, sk)
	if bad > 0 {
		os.Exit(1)
	}
}
