import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/** Java kafka-clients + Streams smoke. Usage: Smoke BOOTSTRAP ; env CASES=regex, SASL_BOOTSTRAP, SASL_PLAIN=user:pass */
public class Smoke {
  static String boot, run = UUID.randomUUID().toString().substring(0, 8);
  static Admin adm;
  interface Case { void run() throws Exception; }
  static final LinkedHashMap<String, Case> cases = new LinkedHashMap<>();
  static class Skip extends RuntimeException { Skip(String m) { super(m); } }

  static String tn(String s) { return "smoke-" + run + "-" + s; }
  static void check(boolean b, Object why) { if (!b) throw new AssertionError(String.valueOf(why)); }
  static void until(int secs, String what, Callable<Boolean> c) throws Exception {
    long end = System.nanoTime() + secs * 1_000_000_000L;
    while (System.nanoTime() < end) { if (c.call()) return; Thread.sleep(100); }
    throw new AssertionError(what + " not reached in " + secs + "s");
  }
  static <T> T get(KafkaFuture<T> f) throws Exception {
    try { return f.get(20, TimeUnit.SECONDS); } catch (ExecutionException e) { if (e.getCause() instanceof Exception) throw (Exception) e.getCause(); throw e; }
  }
  static String mk(String s, int parts, String... cfg) throws Exception {
    String n = tn(s); Map<String, String> m = new HashMap<>();
    for (int i = 0; i < cfg.length; i += 2) m.put(cfg[i], cfg[i + 1]);
    get(adm.createTopics(List.of(new NewTopic(n, parts, (short) 1).configs(m))).all());
    until(10, "topic metadata", () -> { try { return get(adm.describeTopics(List.of(n)).allTopicNames()).get(n).partitions().size() == parts; } catch (UnknownTopicOrPartitionException e) { return false; } });
    return n;
  }
  static Properties props(Object... kv) {
    Properties p = new Properties(); p.put("bootstrap.servers", boot);
    for (int i = 0; i < kv.length; i += 2) p.put(kv[i], kv[i + 1]);
    return p;
  }
  static KafkaProducer<String, String> producer(Object... kv) {
    return new KafkaProducer<>(props(kv), new StringSerializer(), new StringSerializer());
  }
  static KafkaConsumer<String, String> consumer(String group, Object... kv) {
    Properties p = props(kv); if (group != null) p.put("group.id", group);
    p.putIfAbsent("auto.offset.reset", "earliest"); p.putIfAbsent("enable.auto.commit", "false");
    return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
  }
  static void prod(String t, int n, Object... kv) throws Exception {
    try (var p = producer(kv)) {
      List<Future<RecordMetadata>> fs = new ArrayList<>();
      for (int i = 0; i < n; i++) fs.add(p.send(new ProducerRecord<>(t, "k" + i, "v" + i)));
      for (var f : fs) f.get(20, TimeUnit.SECONDS);
    }
  }
  static List<ConsumerRecord<String, String>> read(Consumer<String, String> c, int n, int extraMs) {
    List<ConsumerRecord<String, String>> out = new ArrayList<>(); long end = System.currentTimeMillis() + 20000;
    while (out.size() < n && System.currentTimeMillis() < end) c.poll(Duration.ofMillis(200)).forEach(out::add);
    end = System.currentTimeMillis() + extraMs;
    while (System.currentTimeMillis() < end) c.poll(Duration.ofMillis(100)).forEach(out::add);
    check(out.size() >= n, "got " + out.size() + " of " + n);
    return out;
  }
  static List<ConsumerRecord<String, String>> readAll(String t, int n, int extraMs, Object... kv) throws Exception {
    try (var c = consumer(null, kv)) {
      var tps = c.partitionsFor(t).stream().map(i -> new TopicPartition(t, i.partition())).collect(Collectors.toList());
      c.assign(tps); c.seekToBeginning(tps);
      return read(c, n, extraMs);
    }
  }
  /** A polling member on its own thread; each exposes its current assignment. */
  static class Member implements AutoCloseable {
    final KafkaConsumer<String, String> c; final Thread t; volatile boolean stop; volatile Set<TopicPartition> have = Set.of(); volatile Throwable err;
    Member(String topic, String g, Object... kv) {
      c = consumer(g, kv); c.subscribe(List.of(topic));
      t = new Thread(() -> { try { while (!stop) { c.poll(Duration.ofMillis(100)); have = Set.copyOf(c.assignment()); } } catch (Throwable e) { err = e; } finally { c.close(); } });
      t.setDaemon(true); t.start();
    }
    public void close() throws Exception { stop = true; t.join(15000); }
  }
  static void rebalance(String tag, Object... kv) throws Exception {
    String n = mk("reb-" + tag, 4), g = tn("reb-" + tag);
    Member a = new Member(n, g, kv);
    until(40, "member 1 owns 4", () -> a.have.size() == 4);
    Member b = new Member(n, g, kv);
    until(60, "2+2 split", () -> a.have.size() == 2 && b.have.size() == 2 && Collections.disjoint(a.have, b.have));
    b.close();
    until(60, "member 1 owns 4 again", () -> a.have.size() == 4);
    a.close();
    check(a.err == null && b.err == null, a.err + " " + b.err);
  }

  static void define() {
    cases.put("describe-cluster-features", () -> {
      var d = adm.describeCluster(); check(!get(d.nodes()).isEmpty() && get(d.clusterId()) != null && get(d.controller()) != null, "cluster");
      check(get(adm.describeFeatures().featureMetadata()).finalizedFeatures().containsKey("metadata.version"), "metadata.version feature");
    });
    cases.put("create-list-delete-topics", () -> {
      String n = mk("cld", 3);
      try { get(adm.createTopics(List.of(new NewTopic(n, 3, (short) 1))).all()); check(false, "dup"); } catch (TopicExistsException e) { }
      check(get(adm.listTopics().names()).contains(n), "listed");
      get(adm.createTopics(List.of(new NewTopic(tn("vo"), 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all());
      check(!get(adm.listTopics().names()).contains(tn("vo")), "validateOnly created it");
      Uuid id = get(adm.describeTopics(List.of(n)).allTopicNames()).get(n).topicId();
      check(!id.equals(Uuid.ZERO_UUID), "topic id");
      get(adm.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
      until(10, "gone", () -> !get(adm.listTopics().names()).contains(n));
    });
    cases.put("create-partitions", () -> {
      String n = mk("cp", 1); get(adm.createPartitions(Map.of(n, NewPartitions.increaseTo(4))).all());
      until(10, "4", () -> get(adm.describeTopics(List.of(n)).allTopicNames()).get(n).partitions().size() == 4);
      try { get(adm.createPartitions(Map.of(n, NewPartitions.increaseTo(2))).all()); check(false, "shrunk"); } catch (InvalidPartitionsException e) { }
    });
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd"))
      cases.put("codec-" + codec, () -> {
        String n = mk("codec-" + codec, 1); prod(n, 500, "compression.type", codec, "linger.ms", 20);
        var r = readAll(n, 500, 0); for (int i = 0; i < 500; i++) check(r.get(i).value().equals("v" + i), r.get(i));
      });
    cases.put("headers-timestamps-tombstones", () -> {
      String n = mk("kht", 1);
      try (var p = producer()) {
        var r = new ProducerRecord<>(n, 0, 1700000000123L, "k", "v"); r.headers().add("h", "1".getBytes()).add("h", null);
        p.send(r).get(); p.send(new ProducerRecord<>(n, "k", null)).get();
      }
      var m = readAll(n, 2, 0);
      check(m.get(0).timestamp() == 1700000000123L && m.get(0).headers().toArray().length == 2 && m.get(0).headers().toArray()[1].value() == null && m.get(1).value() == null, m);
    });
    cases.put("record-too-large", () -> {
      String n = mk("rtl", 1, "max.message.bytes", "10000");
      try (var p = producer()) { p.send(new ProducerRecord<>(n, "x".repeat(50000))).get(); check(false, "accepted"); }
      catch (ExecutionException e) { check(e.getCause() instanceof RecordTooLargeException, e); }
    });
    cases.put("group-rebalance-eager", () -> rebalance("eager", "group.protocol", "classic", "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor"));
    cases.put("group-rebalance-cooperative", () -> rebalance("coop", "group.protocol", "classic", "partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor", "heartbeat.interval.ms", "500"));
    cases.put("group-rebalance-kip848-uniform", () -> rebalance("k848u", "group.protocol", "consumer", "group.remote.assignor", "uniform"));
    cases.put("group-rebalance-kip848-range", () -> rebalance("k848r", "group.protocol", "consumer", "group.remote.assignor", "range"));
    cases.put("kip848-describe-and-regex", () -> {
      String n = mk("k8rx-a", 2), g = tn("k8rx"); prod(n, 5);
      try (var c = consumer(g, "group.protocol", "consumer")) {
        c.subscribe(new SubscriptionPattern("smoke-" + run + "-k8rx-.*"));
        check(read(c, 5, 0).size() == 5, "read"); c.commitSync();
        var d = get(adm.describeConsumerGroups(List.of(g)).all()).get(g);
        check(d.type() == GroupType.CONSUMER && d.members().size() == 1 && d.groupEpoch().isPresent(), d);
        check(get(adm.listGroups().all()).stream().anyMatch(x -> x.groupId().equals(g) && x.type().get() == GroupType.CONSUMER), "listGroups type");
      }
    });
    cases.put("commit-and-resume", () -> {
      String n = mk("cr", 1), g = tn("cr"); prod(n, 20); var tp = new TopicPartition(n, 0);
      try (var c = consumer(g)) { c.subscribe(List.of(n)); read(c, 20, 0); c.commitSync(Map.of(tp, new OffsetAndMetadata(8, "meta!"))); }
      try (var c = consumer(g)) { c.subscribe(List.of(n)); var r = read(c, 12, 0); check(r.get(0).offset() == 8, r.get(0)); check(c.committed(Set.of(tp)).get(tp).metadata().equals("meta!"), "meta"); }
    });
    cases.put("offsets-for-times-list-offsets", () -> {
      String n = mk("oft", 1); var tp = new TopicPartition(n, 0);
      try (var p = producer()) { for (int i = 0; i < 20; i++) p.send(new ProducerRecord<>(n, 0, 1700000000000L + i * 1000, "k", "v")); }
      try (var c = consumer(null)) {
        check(c.offsetsForTimes(Map.of(tp, 1700000007500L)).get(tp).offset() == 8, "oft");
        check(c.offsetsForTimes(Map.of(tp, 1800000000000L)).get(tp) == null, "oft none");
        check(c.beginningOffsets(List.of(tp)).get(tp) == 0 && c.endOffsets(List.of(tp)).get(tp) == 20, "ends");
      }
      check(get(adm.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).all()).get(tp).offset() == 19, "max ts");
      check(get(adm.listOffsets(Map.of(tp, OffsetSpec.earliestLocal())).all()).get(tp).offset() == 0, "earliest local");
    });
    cases.put("delete-records", () -> {
      String n = mk("dr", 1); var tp = new TopicPartition(n, 0); prod(n, 30);
      check(get(adm.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(12))).all()) == null, "");
      check(readAll(n, 18, 100).get(0).offset() == 12, "low watermark");
    });
    cases.put("configs-describe-alter", () -> {
      String n = mk("cfg", 1, "retention.ms", "3600000"); var r = new ConfigResource(ConfigResource.Type.TOPIC, n);
      check(get(adm.describeConfigs(List.of(r)).all()).get(r).get("retention.ms").value().equals("3600000"), "create-time");
      get(adm.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "7200000"), AlterConfigOp.OpType.SET), new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND)))).all());
      until(10, "altered", () -> { var c = get(adm.describeConfigs(List.of(r)).all()).get(r); return c.get("retention.ms").value().equals("7200000") && Set.of(c.get("cleanup.policy").value().split(",")).equals(Set.of("delete", "compact")) && c.get("retention.ms").source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG; });
      try { get(adm.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("no.such", "1"), AlterConfigOp.OpType.SET)))).all()); check(false, "unknown config accepted"); } catch (InvalidConfigurationException e) { }
      var b = new ConfigResource(ConfigResource.Type.BROKER, get(adm.describeCluster().nodes()).iterator().next().idString());
      var all = get(adm.describeConfigs(List.of(b), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all()).get(b);
      check(all.get("log.retention.ms") != null || all.get("log.retention.hours") != null, "broker configs");
      get(adm.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.BROKER, ""), List.of(new AlterConfigOp(new ConfigEntry("log.cleaner.threads", "1"), AlterConfigOp.OpType.SET)))).all());
    });
    cases.put("group-admin", () -> {
      String n = mk("ga", 1), g = tn("ga"); prod(n, 10); var tp = new TopicPartition(n, 0);
      try (var c = consumer(g)) {
        c.subscribe(List.of(n)); read(c, 10, 0); c.commitSync();
        var d = get(adm.describeConsumerGroups(List.of(g)).all()).get(g);
        check(d.groupState() == GroupState.STABLE && d.members().iterator().next().assignment().topicPartitions().equals(Set.of(tp)), d);
        try { get(adm.deleteConsumerGroups(List.of(g)).all()); check(false, "deleted live group"); } catch (GroupNotEmptyException e) { }
      }
      until(10, "empty", () -> get(adm.describeConsumerGroups(List.of(g)).all()).get(g).groupState() == GroupState.EMPTY);
      get(adm.alterConsumerGroupOffsets(g, Map.of(tp, new OffsetAndMetadata(3))).all());
      check(get(adm.listConsumerGroupOffsets(g).partitionsToOffsetAndMetadata()).get(tp).offset() == 3, "altered");
      get(adm.deleteConsumerGroupOffsets(g, Set.of(tp)).all());
      check(get(adm.listConsumerGroupOffsets(g).partitionsToOffsetAndMetadata()).get(tp) == null, "offset deleted");
      try { get(adm.deleteConsumerGroups(List.of(g)).all()); } catch (GroupIdNotFoundException e) { }
      until(5, "gone", () -> get(adm.listGroups().all()).stream().noneMatch(x -> x.groupId().equals(g)));
    });
    cases.put("transactions-read-committed", () -> {
      String n = mk("txn", 2);
      try (var p = producer("transactional.id", tn("jt"))) {
        p.initTransactions();
        for (String s : List.of("A", "B", "C")) { p.beginTransaction(); for (int i = 0; i < 10; i++) p.send(new ProducerRecord<>(n, "k" + i, s)); p.flush(); if (s.equals("B")) p.abortTransaction(); else p.commitTransaction(); }
      }
      var rc = readAll(n, 20, 700, "isolation.level", "read_committed");
      check(rc.size() == 20 && rc.stream().noneMatch(r -> r.value().equals("B")), rc.size());
      check(readAll(n, 30, 300).size() == 30, "uncommitted");
    });
    cases.put("transactions-fencing", () -> {
      String n = mk("fence", 1), id = tn("fence"); var p1 = producer("transactional.id", id); p1.initTransactions(); p1.beginTransaction(); p1.send(new ProducerRecord<>(n, "z")).get();
      var p2 = producer("transactional.id", id); p2.initTransactions();
      try { p1.commitTransaction(); check(false, "zombie committed"); } catch (ProducerFencedException | InvalidProducerEpochException e) { } finally { p1.close(Duration.ZERO); }
      p2.beginTransaction(); p2.send(new ProducerRecord<>(n, "ok")); p2.commitTransaction(); p2.close();
      check(readAll(n, 1, 500, "isolation.level", "read_committed").size() == 1, "1 record");
    });
    cases.put("transactions-eos-offsets-and-admin", () -> {
      String a = mk("eosi", 1), b = mk("eoso", 1), g = tn("eos"); prod(a, 10); var tp = new TopicPartition(a, 0);
      try (var c = consumer(g); var p = producer("transactional.id", tn("eos"))) {
        c.subscribe(List.of(a)); var in = read(c, 10, 0); p.initTransactions(); p.beginTransaction();
        for (var r : in) p.send(new ProducerRecord<>(b, r.value())); p.flush();
        var d = get(adm.describeTransactions(List.of(tn("eos"))).all()).get(tn("eos")); check(d.state() == TransactionState.ONGOING && d.topicPartitions().size() >= 1, d);
        check(get(adm.listTransactions().all()).stream().anyMatch(t -> t.transactionalId().equals(tn("eos"))), "listTransactions");
        check(get(adm.describeProducers(List.of(new TopicPartition(b, 0))).all()).values().iterator().next().activeProducers().size() == 1, "describeProducers");
        p.sendOffsetsToTransaction(Map.of(tp, new OffsetAndMetadata(10)), c.groupMetadata()); p.commitTransaction();
        check(c.committed(Set.of(tp)).get(tp).offset() == 10, "offsets");
        get(adm.fenceProducers(List.of(tn("eos"))).all());
      }
    });
    cases.put("acls", () -> {
      String n = tn("acl"); var a = new AclBinding(new ResourcePattern(ResourceType.TOPIC, n, PatternType.PREFIXED), new AccessControlEntry("User:smoke", "*", AclOperation.WRITE, AclPermissionType.ALLOW));
      get(adm.createAcls(List.of(a)).all()); var f = new AclBindingFilter(new ResourcePatternFilter(ResourceType.TOPIC, n + "-x", PatternType.MATCH), AccessControlEntryFilter.ANY);
      until(10, "acl", () -> get(adm.describeAcls(f).values()).contains(a)); check(get(adm.deleteAcls(List.of(a.toFilter())).all()).size() == 1, "deleted");
      until(10, "acl gone", () -> !get(adm.describeAcls(f).values()).contains(a));
    });
    cases.put("scram", () -> {
      String u = tn("u"); get(adm.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(u, new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), "pw"))).all());
      until(10, "described", () -> { try { return get(adm.describeUserScramCredentials(List.of(u)).all()).get(u).credentialInfos().size() == 1; } catch (ResourceNotFoundException e) { return false; } });
      String sb = System.getenv("SASL_BOOTSTRAP");
      if (sb != null && !sb.isEmpty()) {
        Properties p = props("security.protocol", "SASL_PLAINTEXT", "sasl.mechanism", "SCRAM-SHA-512", "sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"" + u + "\" password=\"pw\";"); p.put("bootstrap.servers", sb);
        try (Admin a2 = Admin.create(p)) { check(!get(a2.describeCluster().nodes()).isEmpty(), "scram login"); }
      }
      get(adm.alterUserScramCredentials(List.of(new UserScramCredentialDeletion(u, ScramMechanism.SCRAM_SHA_512))).all());
    });
    cases.put("quotas", () -> {
      var e = new ClientQuotaEntity(Map.of("client-id", tn("q")));
      get(adm.alterClientQuotas(List.of(new ClientQuotaAlteration(e, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e6))))).all());
      until(10, "quota", () -> get(adm.describeClientQuotas(ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntity("client-id", tn("q"))))).entities()).get(e) != null);
      get(adm.alterClientQuotas(List.of(new ClientQuotaAlteration(e, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", null))))).all());
    });
    cases.put("logdirs-reassign-elect-quorum", () -> {
      String n = mk("ldr", 1); prod(n, 5); int b = get(adm.describeCluster().nodes()).iterator().next().id();
      check(!get(adm.describeLogDirs(List.of(b)).allDescriptions()).get(b).isEmpty(), "logdirs");
      check(get(adm.listPartitionReassignments().reassignments()) != null, "reassignments");
      get(adm.alterPartitionReassignments(Map.of(new TopicPartition(n, 0), Optional.of(new NewPartitionReassignment(List.of(b))))).all());
      try { get(adm.electLeaders(ElectionType.PREFERRED, Set.of(new TopicPartition(n, 0))).all()); } catch (ElectionNotNeededException e) { }
      check(get(adm.describeMetadataQuorum().quorumInfo()).leaderId() >= 0, "quorum");
    });
    cases.put("share-group-kip932", () -> {
      String n = mk("share", 1), g = tn("share"); var r = new ConfigResource(ConfigResource.Type.GROUP, g);
      get(adm.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET)))).all());
      prod(n, 10); int got = 0;
      try (var c = new KafkaShareConsumer<>(props("group.id", g), new StringDeserializer(), new StringDeserializer())) {
        c.subscribe(List.of(n)); long end = System.currentTimeMillis() + 20000;
        while (got < 10 && System.currentTimeMillis() < end) got += c.poll(Duration.ofMillis(300)).count();
      }
      check(got == 10, "got " + got);
    });
    cases.put("streams-word-count", () -> streams("at_least_once", "classic"));
    cases.put("streams-word-count-exactly-once-v2", () -> streams("exactly_once_v2", "classic"));
    cases.put("streams-word-count-kip1071", () -> streams("at_least_once", "streams"));
  }
  static void streams(String guarantee, String proto) throws Exception {
    String tag = guarantee.substring(0, 5) + proto, in = mk("sin-" + tag, 2), out = mk("sout-" + tag, 2), app = tn("app-" + tag);
    StreamsBuilder sb = new StreamsBuilder();
    sb.stream(in, Consumed.with(Serdes.String(), Serdes.String())).flatMapValues(v -> Arrays.asList(v.split(" ")))
      .groupBy((k, w) -> w, Grouped.with(Serdes.String(), Serdes.String())).count(Materialized.as("counts")).toStream().mapValues(String::valueOf).to(out, Produced.with(Serdes.String(), Serdes.String()));
    Properties p = props("application.id", app, "processing.guarantee", guarantee, "commit.interval.ms", "200", "state.dir", System.getProperty("java.io.tmpdir") + "/" + app, "group.protocol", proto, "auto.offset.reset", "earliest", "num.stream.threads", "1", "statestore.cache.max.bytes", "0");
    try (var pr = producer()) { for (int i = 0; i < 10; i++) pr.send(new ProducerRecord<>(in, "k" + i, "alpha beta alpha")).get(); }
    try (KafkaStreams ks = new KafkaStreams(sb.build(), p)) {
      ks.start(); Map<String, String> last = new ConcurrentHashMap<>();
      try (var c = consumer(null, "isolation.level", "read_committed")) {
        c.assign(List.of(new TopicPartition(out, 0), new TopicPartition(out, 1)));
        c.seekToBeginning(c.assignment());
        until(60, "counts alpha=20 beta=10", () -> { c.poll(Duration.ofMillis(200)).forEach(r -> last.put(r.key(), r.value())); return "20".equals(last.get("alpha")) && "10".equals(last.get("beta")); });
      }
      ks.close(Duration.ofSeconds(20));
    }
  }

  public static void main(String[] a) throws Exception {
    boot = a[0]; adm = Admin.create(props("request.timeout.ms", "15000", "default.api.timeout.ms", "20000"));
    String pat = System.getenv().getOrDefault("CASES", "."); int ok = 0, bad = 0, skip = 0; define();
    ExecutorService ex = Executors.newCachedThreadPool(r -> { Thread t = new Thread(r); t.setDaemon(true); return t; });
    for (var e : cases.entrySet()) {
      if (!java.util.regex.Pattern.compile(pat).matcher(e.getKey()).find()) continue;
      String not = System.getenv().getOrDefault("NOT_YET", "");
      if (!not.isEmpty() && java.util.regex.Pattern.compile(not).matcher(e.getKey()).find()) { skip++; System.out.printf("java/%s: skip: not yet in StreamBus%n", e.getKey()); continue; }
      long t0 = System.nanoTime();
      Future<?> f = ex.submit(() -> { e.getValue().run(); return null; });
      try { f.get(120, TimeUnit.SECONDS); ok++; System.out.printf("java/%s: pass (%.1fs)%n", e.getKey(), (System.nanoTime() - t0) / 1e9); }
      catch (Throwable t) { Throwable c = t instanceof ExecutionException ? t.getCause() : t; f.cancel(true);
        if (c instanceof Skip) { skip++; System.out.printf("java/%s: skip: %s%n", e.getKey(), c.getMessage()); }
        else { bad++; String m = String.valueOf(c).replaceAll("\\s+", " "); System.out.printf("java/%s: fail: %s%n", e.getKey(), m.substring(0, Math.min(300, m.length()))); if (System.getenv("TRACE") != null) c.printStackTrace(); } }
    }
    System.out.printf("java: %s: %d of %d pass, %d skipped%n", bad == 0 ? "pass" : "fail", ok, ok + bad, skip);
    System.out.flush(); Runtime.getRuntime().halt(bad == 0 ? 0 : 1);
  }
}
