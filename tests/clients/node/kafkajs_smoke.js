// kafkajs smoke (pure JS). usage: node kafkajs_smoke.js BOOTSTRAP ; env CASES=regex SASL_BOOTSTRAP SASL_PLAIN=user:pass
const { Kafka, logLevel, CompressionTypes, CompressionCodecs, ConfigResourceTypes, AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } = require('kafkajs');
const snappy = require('snappy'), lz4 = require('lz4-napi'), zlib = require('zlib');
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]);
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async e => snappy.compress(e.buffer),
  decompress: async b => { // xerial framing (Java writers) or raw
    if (!b.subarray(0, 8).equals(XERIAL)) return snappy.uncompress(b, { asBuffer: true });
    const out = []; for (let p = 16; p < b.length;) { const n = b.readUInt32BE(p); out.push(await snappy.uncompress(b.subarray(p + 4, p + 4 + n), { asBuffer: true })); p += 4 + n; }
    return Buffer.concat(out);
  } });
CompressionCodecs[CompressionTypes.LZ4] = () => ({ compress: async e => lz4.compressFrame(e.buffer), decompress: async b => lz4.decompressFrame(b) });

const boot = (process.argv[2] || '127.0.0.1:9092').split(','), run = Math.random().toString(16).slice(2, 10);
const kafka = new Kafka({ clientId: 'kafkajs-smoke', brokers: boot, logLevel: logLevel.NOTHING, retry: { retries: 5 } });
const tn = s => `smoke-${run}-${s}`, sleep = ms => new Promise(r => setTimeout(r, ms));
const check = (b, why) => { if (!b) throw new Error('check failed: ' + why); };
const until = async (secs, what, f) => { const e = Date.now() + secs * 1000; while (Date.now() < e) { if (await f()) return; await sleep(100); } throw new Error(`${what} not reached in ${secs}s`); };
const admin = kafka.admin(); const cases = [];
const mk = async (s, parts = 1, cfg = {}) => { const t = tn(s); await admin.createTopics({ waitForLeaders: true, topics: [{ topic: t, numPartitions: parts, replicationFactor: 1, configEntries: Object.entries(cfg).map(([name, value]) => ({ name, value: String(value) })) }] }); return t; };
const prod = async (topic, messages, { compression, ...o } = {}) => { const p = kafka.producer(o); await p.connect(); const r = await p.send({ topic, messages, compression }); await p.disconnect(); return r; };
const read = async (topic, n, { groupId = tn('g' + Math.random()), extra = 200, ...o } = {}) => {
  const c = kafka.consumer({ groupId, ...o }), out = []; await c.connect(); await c.subscribe({ topic, fromBeginning: true });
  await c.run({ autoCommit: false, eachMessage: async ({ partition, message }) => { out.push({ partition, ...message }); } });
  try { await until(25, `${n} messages`, () => out.length >= n); await sleep(extra); } finally { await c.disconnect(); } return out; };
const def = (name, f) => cases.push([name, f]);

def('describe-cluster', async () => { const d = await admin.describeCluster(); check(d.clusterId && d.brokers.length && d.controller !== null, JSON.stringify(d)); });
def('create-list-delete-topics', async () => { const t = await mk('cld', 3); check((await admin.listTopics()).includes(t), 'listed'); check(await admin.createTopics({ topics: [{ topic: t }] }) === false, 'dup');
  check((await admin.fetchTopicMetadata({ topics: [t] })).topics[0].partitions.length === 3, 'parts'); await admin.deleteTopics({ topics: [t] }); await until(10, 'gone', async () => !(await admin.listTopics()).includes(t)); });
def('create-partitions', async () => { const t = await mk('cp'); await admin.createPartitions({ topicPartitions: [{ topic: t, count: 4 }] }); await until(10, '4', async () => (await admin.fetchTopicMetadata({ topics: [t] })).topics[0].partitions.length === 4); });
for (const [n, c] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP], ['snappy', CompressionTypes.Snappy], ['lz4', CompressionTypes.LZ4]])
  def('codec-' + n, async () => { const t = await mk('codec-' + n), body = [...Array(300).keys()].map(i => `${n}-${i}-` + 'x'.repeat(200)); await prod(t, body.map(value => ({ value })), { compression: c }); const got = await read(t, 300); check(got.map(m => m.value.toString()).join() === body.join(), 'bodies'); });
def('headers-timestamps-tombstones', async () => { const t = await mk('kht'); await prod(t, [{ key: 'k', value: 'v', headers: { h: '1' }, timestamp: '1700000000123' }, { key: 'k', value: null }]); const [a, b] = await read(t, 2); check(a.headers.h.toString() === '1' && a.timestamp === '1700000000123' && b.value === null, JSON.stringify(a)); });
def('group-two-members-rebalance', async () => {
  const t = await mk('reb', 4), g = tn('reb'), have = {};
  const mem = async id => { const c = kafka.consumer({ groupId: g, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 6000 }); c.on(c.events.GROUP_JOIN, e => { have[id] = (e.payload.memberAssignment[t] || []).length; }); await c.connect(); await c.subscribe({ topic: t }); await c.run({ eachMessage: async () => {} }); return c; };
  const a = await mem('a'); await until(30, '4', () => have.a === 4); const b = await mem('b'); await until(40, '2+2', () => have.a === 2 && have.b === 2);
  const d = (await admin.describeGroups([g])).groups[0]; check(d.members.length === 2 && d.state === 'Stable', JSON.stringify(d.state)); await b.disconnect(); await until(40, '4 again', () => have.a === 4); await a.disconnect(); });
def('commit-and-resume', async () => { const t = await mk('cr'), g = tn('cr'); await prod(t, [...Array(20).keys()].map(i => ({ value: String(i) }))); await read(t, 20, { groupId: g });
  const c = kafka.consumer({ groupId: g }); const got = []; await admin.setOffsets({ groupId: g, topic: t, partitions: [{ partition: 0, offset: '8' }] });
  check((await admin.fetchOffsets({ groupId: g, topics: [t] }))[0].partitions[0].offset === '8', 'fetchOffsets'); await c.connect(); await c.subscribe({ topic: t, fromBeginning: true }); await c.run({ eachMessage: async ({ message }) => { got.push(message.offset); } }); await until(20, '12', () => got.length >= 12); check(got[0] === '8', got[0]); await c.disconnect(); });
def('offsets-for-times', async () => { const t = await mk('oft'); await prod(t, [...Array(20).keys()].map(i => ({ value: 'x', timestamp: String(1700000000000 + i * 1000) }))); check((await admin.fetchTopicOffsetsByTimestamp(t, 1700000007500))[0].offset === '8', 'by ts'); const o = (await admin.fetchTopicOffsets(t))[0]; check(o.low === '0' && o.high === '20', JSON.stringify(o)); });
def('delete-records', async () => { const t = await mk('dr'); await prod(t, [...Array(30).keys()].map(i => ({ value: String(i) }))); const a2 = kafka.admin(); await a2.connect(); await a2.fetchTopicOffsets(t); await a2.deleteTopicRecords({ topic: t, partitions: [{ partition: 0, offset: '12' }] }); await a2.disconnect(); check((await admin.fetchTopicOffsets(t))[0].low === '12', 'low'); check((await read(t, 18))[0].offset === '12', 'first'); });
def('configs-describe-alter', async () => { const t = await mk('cfg', 1, { 'retention.ms': 3600000 }); const get = async () => (await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: t }] })).resources[0].configEntries.find(e => e.configName === 'retention.ms').configValue;
  check(await get() === '3600000', 'create'); await admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: t, configEntries: [{ name: 'retention.ms', value: '7200000' }] }] }); await until(10, 'altered', async () => await get() === '7200000'); });
def('group-admin', async () => { const t = await mk('ga'), g = tn('ga'); await prod(t, [{ value: '1' }]); const c = kafka.consumer({ groupId: g }); let n = 0; await c.connect(); await c.subscribe({ topic: t, fromBeginning: true }); await c.run({ eachMessage: async () => { n++; } }); await until(20, 'msg', () => n === 1); await c.disconnect();
  check((await admin.listGroups()).groups.some(x => x.groupId === g), 'listed'); await admin.resetOffsets({ groupId: g, topic: t, earliest: true }); await admin.deleteGroups([g]); check(!(await admin.listGroups()).groups.some(x => x.groupId === g), 'deleted'); });
def('idempotent-produce', async () => { const t = await mk('idem', 2); await prod(t, [...Array(200).keys()].map(i => ({ value: String(i) })), { idempotent: true, maxInFlightRequests: 1 }); check(new Set((await read(t, 200)).map(m => m.value.toString())).size === 200, '200'); });
def('transaction-commit-abort', async () => { const t = await mk('txn'), p = kafka.producer({ transactionalId: tn('kjt'), idempotent: true, maxInFlightRequests: 1 }); await p.connect();
  for (const [s, end] of [['A', 'commit'], ['B', 'abort'], ['C', 'commit']]) { const x = await p.transaction(); await x.send({ topic: t, messages: [...Array(5).keys()].map(() => ({ value: s })) }); if (s === 'A') await x.sendOffsets({ consumerGroupId: tn('txg'), topics: [{ topic: t, partitions: [{ partition: 0, offset: '3' }] }] }); await x[end](); } await p.disconnect();
  const got = (await read(t, 10, { extra: 500 })).map(m => m.value.toString()).join(''); check(got === 'AAAAACCCCC', got); check((await admin.fetchOffsets({ groupId: tn('txg'), topics: [t] }))[0].partitions[0].offset === '3', 'txn offsets'); });
def('acl-create-describe-delete', async () => { const n = tn('acl'), a = { resourceType: AclResourceTypes.TOPIC, resourceName: n, resourcePatternType: ResourcePatternTypes.LITERAL, principal: 'User:smoke', host: '*', operation: AclOperationTypes.READ, permissionType: AclPermissionTypes.ALLOW };
  await admin.createAcls({ acl: [a] }); await until(10, 'acl', async () => (await admin.describeAcls(a)).resources.length === 1); await admin.deleteAcls({ filters: [a] }); await until(10, 'no acl', async () => (await admin.describeAcls(a)).resources.length === 0); });
def('sasl-login', async () => { if (!process.env.SASL_BOOTSTRAP) return 'SASL_BOOTSTRAP not set'; const [username, password] = (process.env.SASL_PLAIN || 'alice:alice-secret').split(':'); const k = new Kafka({ brokers: [process.env.SASL_BOOTSTRAP], logLevel: logLevel.NOTHING, sasl: { mechanism: 'plain', username, password } }); const a = k.admin(); await a.connect(); await a.listTopics(); await a.disconnect(); });

(async () => {
  await admin.connect(); const pat = new RegExp(process.env.CASES || '.'); let ok = 0, bad = 0, skip = 0;
  for (const [n, f] of cases) { if (!pat.test(n)) continue; if (process.env.NOT_YET && new RegExp(process.env.NOT_YET).test(n)) { skip++; console.log(`node-kafkajs/${n}: skip: not yet in StreamBus`); continue; } const t0 = Date.now(); let tm;
    try { const r = await Promise.race([f(), new Promise((_, j) => { tm = setTimeout(() => j(new Error('case timed out')), 90000); })]); if (typeof r === 'string') { skip++; console.log(`node-kafkajs/${n}: skip: ${r}`); } else { ok++; console.log(`node-kafkajs/${n}: pass (${((Date.now() - t0) / 1000).toFixed(1)}s)`); } }
    catch (e) { bad++; console.log(`node-kafkajs/${n}: fail: ${String(e.message || e).replace(/\s+/g, ' ').slice(0, 300)}`); if (process.env.TRACE) console.error(e); } clearTimeout(tm); }
  console.log(`node-kafkajs: ${bad ? 'fail' : 'pass'}: ${ok} of ${ok + bad} pass, ${skip} skipped`); process.exit(bad ? 1 : 0);
})().catch(e => { console.log(`node-kafkajs: fail: ${e.message}`); process.exit(1); });
