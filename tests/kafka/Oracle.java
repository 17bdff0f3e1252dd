import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.MessageFormatter;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.connect.connector.ConnectorContext;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.mirror.Checkpoint;
import org.apache.kafka.connect.mirror.Heartbeat;
import org.apache.kafka.connect.mirror.MirrorCheckpointConnector;
import org.apache.kafka.connect.mirror.MirrorCheckpointTask;
import org.apache.kafka.connect.mirror.MirrorClient;
import org.apache.kafka.connect.mirror.MirrorUtils;
import org.apache.kafka.connect.mirror.OffsetSync;
import org.apache.kafka.connect.mirror.OffsetSyncStore;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;
import org.apache.kafka.connect.mirror.formatters.CheckpointFormatter;
import org.apache.kafka.connect.mirror.formatters.HeartbeatFormatter;
import org.apache.kafka.connect.mirror.formatters.OffsetSyncFormatter;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTaskContext;

/**
 * The independent witness of the tests: reads, writes and administers clusters with Kafka's own Java client,
 * which shares no code with what is tested. One JSON request per line on stdin, {"id", "command", …}; one JSON
 * answer per line on stdout, {"id", "result"} or {"id", "error"}, in the order they are ready. Bytes are hex,
 * and null is null. Ends when stdin does.
 */
public final class Oracle {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HexFormat HEX = HexFormat.of();
    private static final Duration POLL = Duration.ofMillis(100);
    private static final Map<String, Admin> ADMINS = new ConcurrentHashMap<>();
    private static final Map<String, KafkaProducer<byte[], byte[]>> TRANSACTIONAL = new ConcurrentHashMap<>();

    public static void main(String[] args) throws Exception {
        var answers = System.out;
        var workers = Executors.newCachedThreadPool();
        var requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = requests.readLine()) != null; ) {
            JsonNode request = JSON.readTree(line);
            workers.execute(() -> {
                ObjectNode answer = JSON.createObjectNode().put("id", request.get("id").asLong());
                try {
                    answer.set("result", new Oracle(request).answer());
                } catch (Throwable e) {
                    Throwable cause = e instanceof ExecutionException && e.getCause() != null ? e.getCause() : e;
                    answer.put("error", cause.toString());
                }
                synchronized (answers) {
                    answers.println(answer);
                    answers.flush();
                }
            });
        }
        // A command may be waiting for a dead broker; nobody waits for it any more.
        Runtime.getRuntime().halt(0);
    }

    private final JsonNode request;

    private Oracle(JsonNode request) {
        this.request = request;
    }

    private JsonNode answer() throws Exception {
        return switch (text("command")) {
            case "describe_cluster" -> describeCluster();
            case "dump" -> dump();
            case "digest" -> digest();
            case "end_offsets" -> offsets(false);
            case "start_offsets" -> offsets(true);
            case "topics" -> JSON.valueToTree(admin().listTopics().names().get().stream().sorted().toList());
            case "describe_topic" -> describeTopic();
            case "topic_configs" -> topicConfigs();
            case "create_topic" -> createTopic();
            case "delete_topic" -> done(admin().deleteTopics(List.of(topic())).all());
            case "grow_topic" -> done(admin().createPartitions(
                    Map.of(topic(), NewPartitions.increaseTo(request.get("partitions").asInt()))).all());
            case "alter_topic_config" -> alterTopicConfig();
            case "delete_records" -> done(admin().deleteRecords(
                    Map.of(partition(), RecordsToDelete.beforeOffset(request.get("before").asLong()))).all());
            case "group_offsets" -> groupOffsets();
            case "set_group_offset" -> done(admin().alterConsumerGroupOffsets(text("group"),
                    Map.of(partition(), new OffsetAndMetadata(request.get("offset").asLong()))).all());
            case "group_commits" -> groupCommits();
            case "assign_and_commit" -> assignAndCommit();
            case "join_group" -> joinGroup();
            case "leave_group" -> leaveGroup();
            case "delete_group_offset" -> done(admin().deleteConsumerGroupOffsets(
                    text("group"), Set.of(partition())).all());
            case "delete_group" -> done(admin().deleteConsumerGroups(List.of(text("group"))).all());
            case "create_acls" -> createAcls();
            case "delete_acls" -> done(admin().deleteAcls(acls()).all());
            case "produce" -> produce();
            case "transaction" -> transaction();
            case "transactional_load" -> transactionalLoad();
            case "mm2_encode" -> mm2Encode();
            case "mm2_decode" -> mm2Decode();
            case "mm2_format" -> mm2Format();
            case "connect_offset" -> connectOffset();
            case "offset_sync_store" -> offsetSyncStore();
            case "mm2_checkpoint_task" -> checkpointTask();
            case "translate_offsets" -> groupPositions(RemoteClusterUtils.translateOffsets(
                    mirrorClientProperties(), text("source"), text("group"), CLIENT_TIMEOUT));
            case "remote_consumer_offsets" -> mirrorClient(client ->
                    groupPositions(client.remoteConsumerOffsets(text("group"), text("source"), CLIENT_TIMEOUT)));
            case "replication_hops" -> mirrorClient(client ->
                    JSON.getNodeFactory().numberNode(client.replicationHops(text("source"))));
            case "upstream_clusters" -> mirrorClient(client -> sorted(client.upstreamClusters()));
            case "heartbeat_topics" -> mirrorClient(client -> sorted(client.heartbeatTopics()));
            case "checkpoint_topics" -> mirrorClient(client -> sorted(client.checkpointTopics()));
            default -> throw new IllegalArgumentException("unknown command: " + text("command"));
        };
    }

    private String text(String name) {
        return request.get(name).asText();
    }

    private String topic() {
        return text("topic");
    }

    private TopicPartition partition() {
        return new TopicPartition(topic(), request.get("partition").asInt());
    }

    private static JsonNode done(org.apache.kafka.common.KafkaFuture<?> future) throws Exception {
        future.get();
        return JSON.nullNode();
    }

    // ---- clients

    private Map<String, Object> clientSettings() {
        var settings = new HashMap<String, Object>();
        settings.put("bootstrap.servers", text("bootstrap"));
        settings.put("reconnect.backoff.ms", 50);
        settings.put("reconnect.backoff.max.ms", 250);
        return settings;
    }

    private Admin admin() {
        return ADMINS.computeIfAbsent(text("bootstrap"), bootstrap -> {
            var settings = clientSettings();
            settings.put("default.api.timeout.ms", 30_000);
            settings.put("request.timeout.ms", 10_000);
            return Admin.create(settings);
        });
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        var settings = clientSettings();
        settings.put("isolation.level", text("isolation"));
        settings.put("auto.offset.reset", "none");
        settings.put("enable.auto.commit", false);
        settings.put("allow.auto.create.topics", false);
        settings.put("max.poll.records", 10_000);
        settings.put("fetch.max.wait.ms", 50);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        var settings = clientSettings();
        settings.putAll(more);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    // ---- reading

    /** Feeds every record that is visible when called to {@code sink}; returns the end offsets that were read to. */
    private Map<TopicPartition, Long> readAll(Consumer<ConsumerRecord<byte[], byte[]>> sink) {
        try (var consumer = consumer()) {
            var partitions = partitions(consumer);
            var ends = new TreeMap<TopicPartition, Long>(BY_PARTITION);
            ends.putAll(consumer.endOffsets(partitions));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var open = new ArrayList<>(partitions);
            long quietSince = System.nanoTime();
            while (true) {
                open.removeIf(p -> {
                    boolean reached = consumer.position(p) >= ends.get(p);
                    if (reached) {
                        consumer.pause(List.of(p));
                    }
                    return reached;
                });
                if (open.isEmpty()) {
                    return ends;
                }
                var records = consumer.poll(POLL);
                for (var record : records) {
                    if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                        sink.accept(record);
                    }
                }
                if (!records.isEmpty()) {
                    quietSince = System.nanoTime();
                } else if (System.nanoTime() - quietSince > 60_000_000_000L) {
                    throw new IllegalStateException("nothing read for 60 s; not at the end yet: " + open);
                }
            }
        }
    }

    private static final Comparator<TopicPartition> BY_PARTITION =
            Comparator.comparingInt(TopicPartition::partition);

    private List<TopicPartition> partitions(KafkaConsumer<byte[], byte[]> consumer) {
        var infos = consumer.partitionsFor(topic());
        if (infos == null || infos.isEmpty()) {
            throw new IllegalStateException("no such topic: " + topic());
        }
        return infos.stream().map(i -> new TopicPartition(i.topic(), i.partition())).sorted(BY_PARTITION).toList();
    }

    private JsonNode dump() {
        ArrayNode out = JSON.createArrayNode();
        readAll(r -> {
            ObjectNode record = out.addObject()
                    .put("partition", r.partition())
                    .put("offset", r.offset())
                    .put("timestamp", r.timestamp())
                    .put("timestamp_type", r.timestampType().toString())
                    .put("key", hex(r.key()))
                    .put("value", hex(r.value()));
            ArrayNode headers = record.putArray("headers");
            for (Header header : r.headers()) {
                headers.addArray().add(hex(headerKey(header))).add(hex(header.value()));
            }
        });
        // The consumer takes partitions in turns; a dump is easier to compare in partition order.
        var records = new ArrayList<JsonNode>();
        out.forEach(records::add);
        records.sort(Comparator.comparingInt(r -> r.get("partition").asInt()));
        return JSON.createArrayNode().addAll(records);
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? null : HEX.formatHex(bytes);
    }

    /** The key's own bytes: {@link Header#key()} replaces what is no UTF-8. */
    private static byte[] headerKey(Header header) {
        try {
            var raw = (ByteBuffer) HEADER_KEY.get(header);
            if (raw == null) {
                return header.key().getBytes(StandardCharsets.UTF_8);
            }
            byte[] bytes = new byte[raw.remaining()];
            raw.duplicate().get(bytes);
            return bytes;
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    private static final Field HEADER_KEY;

    static {
        try {
            HEADER_KEY = RecordHeader.class.getDeclaredField("keyBuffer");
            HEADER_KEY.setAccessible(true);
        } catch (NoSuchFieldException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    private static final class PartitionDigest {
        final MessageDigest sha;
        final DataOutputStream content;
        long records;
        long bytes;
        long first = -1;
        long last = -1;

        PartitionDigest() throws Exception {
            sha = MessageDigest.getInstance("SHA-256");
            content = new DataOutputStream(new DigestOutputStream(OutputStream.nullOutputStream(), sha));
        }

        void add(ConsumerRecord<byte[], byte[]> r) throws IOException {
            records++;
            first = first < 0 ? r.offset() : first;
            last = r.offset();
            bytes += Math.max(0, r.serializedKeySize()) + Math.max(0, r.serializedValueSize());
            content.writeLong(r.timestamp());
            field(r.key());
            field(r.value());
            for (Header header : r.headers()) {
                content.writeByte('h');
                field(headerKey(header));
                field(header.value());
            }
            content.writeByte('.');
        }

        private void field(byte[] bytes) throws IOException {
            content.writeInt(bytes == null ? -1 : bytes.length);
            if (bytes != null) {
                content.write(bytes);
            }
        }
    }

    private JsonNode digest() throws Exception {
        var digests = new HashMap<Integer, PartitionDigest>();
        var keySha = MessageDigest.getInstance("SHA-256");
        // 64 bits of a hash per key: two different keys among ten million meet with a chance of 3 in a million.
        var keys = new Object() {
            long[] hashes = new long[1024];
            int count;
            long withoutKey;
        };
        var ends = readAll(r -> {
            try {
                var digest = digests.get(r.partition());
                if (digest == null) {
                    digests.put(r.partition(), digest = new PartitionDigest());
                }
                digest.add(r);
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
            if (r.key() == null) {
                keys.withoutKey++;
                return;
            }
            if (keys.count == keys.hashes.length) {
                keys.hashes = Arrays.copyOf(keys.hashes, keys.count * 2);
            }
            keys.hashes[keys.count++] = ByteBuffer.wrap(keySha.digest(r.key())).getLong();
        });
        Arrays.sort(keys.hashes, 0, keys.count);
        long distinct = 0;
        for (int i = 0; i < keys.count; i++) {
            distinct += i == 0 || keys.hashes[i] != keys.hashes[i - 1] ? 1 : 0;
        }
        ObjectNode out = JSON.createObjectNode();
        out.put("records", keys.count + keys.withoutKey);
        out.put("distinct_keys", distinct);
        out.put("without_key", keys.withoutKey);
        ArrayNode partitions = out.putArray("partitions");
        for (var end : ends.entrySet()) {
            int number = end.getKey().partition();
            var digest = digests.containsKey(number) ? digests.get(number) : new PartitionDigest();
            partitions.addObject()
                    .put("partition", number)
                    .put("records", digest.records)
                    .put("bytes", digest.bytes)
                    .put("first_offset", digest.first < 0 ? null : (Long) digest.first)
                    .put("last_offset", digest.last < 0 ? null : (Long) digest.last)
                    .put("end_offset", end.getValue())
                    .put("sha256", HEX.formatHex(digest.sha.digest()));
        }
        return out;
    }

    private JsonNode offsets(boolean start) {
        try (var consumer = consumer()) {
            var partitions = partitions(consumer);
            var offsets = start ? consumer.beginningOffsets(partitions) : consumer.endOffsets(partitions);
            return JSON.valueToTree(partitions.stream().map(offsets::get).toList());
        }
    }

    // ---- administration

    private JsonNode describeCluster() throws Exception {
        // Asked of clusters that are coming up, over and over: a client of its own that gives up soon.
        var settings = clientSettings();
        int timeout = request.get("timeout_ms").asInt();
        settings.put("default.api.timeout.ms", timeout);
        settings.put("request.timeout.ms", timeout);
        try (var admin = Admin.create(settings)) {
            var cluster = admin.describeCluster();
            return JSON.createObjectNode()
                    .put("cluster_id", cluster.clusterId().get())
                    .put("brokers", cluster.nodes().get().size());
        }
    }

    private TopicDescription description() throws Exception {
        return admin().describeTopics(List.of(topic())).allTopicNames().get().get(topic());
    }

    private JsonNode describeTopic() throws Exception {
        var topic = description();
        return JSON.createObjectNode()
                .put("topic_id", topic.topicId().toString())
                .put("partitions", topic.partitions().size())
                .put("replication_factor", topic.partitions().get(0).replicas().size());
    }

    private JsonNode topicConfigs() throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic());
        var configs = new TreeMap<String, String>();
        for (var entry : admin().describeConfigs(List.of(resource)).all().get().get(resource).entries()) {
            if (entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG) {
                configs.put(entry.name(), entry.value());
            }
        }
        return JSON.valueToTree(configs);
    }

    private static Map<String, String> stringMap(JsonNode node) {
        var map = new TreeMap<String, String>();
        node.properties().forEach(e -> map.put(e.getKey(), e.getValue().asText()));
        return map;
    }

    private JsonNode createTopic() throws Exception {
        var topic = new NewTopic(topic(), Optional.of(request.get("partitions").asInt()), Optional.empty())
                .configs(stringMap(request.get("configs")));
        return done(admin().createTopics(List.of(topic)).all());
    }

    private JsonNode alterTopicConfig() throws Exception {
        Collection<AlterConfigOp> changes = new ArrayList<>();
        stringMap(request.get("set")).forEach((key, value) ->
                changes.add(new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET)));
        request.get("delete").forEach(key ->
                changes.add(new AlterConfigOp(new ConfigEntry(key.asText(), null), AlterConfigOp.OpType.DELETE)));
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic());
        return done(admin().incrementalAlterConfigs(Map.of(resource, changes)).all());
    }

    /** "TransactionalId" as Kafka's enums call it. */
    private static String constant(String name) {
        return name.replaceAll("(?<=[a-z])(?=[A-Z])", "_").toUpperCase();
    }

    private List<AclBindingFilter> acls() {
        var resource = new ResourcePatternFilter(ResourceType.fromString(constant(text("resource"))), text("name"),
                PatternType.fromString(text("pattern").toUpperCase()));
        var acls = new ArrayList<AclBindingFilter>();
        request.get("operations").forEach(operation -> acls.add(new AclBindingFilter(resource,
                new AccessControlEntryFilter(text("principal"), "*", AclOperation.fromString(constant(operation.asText())),
                        AclPermissionType.fromString(constant(text("permission")))))));
        return acls;
    }

    private JsonNode createAcls() throws Exception {
        var bindings = acls().stream().map(it -> new AclBinding(
                new ResourcePattern(it.patternFilter().resourceType(), it.patternFilter().name(),
                        it.patternFilter().patternType()),
                new AccessControlEntry(it.entryFilter().principal(), it.entryFilter().host(),
                        it.entryFilter().operation(), it.entryFilter().permissionType())));
        return done(admin().createAcls(bindings.toList()).all());
    }

    private JsonNode groupOffsets() throws Exception {
        var offsets = admin().listConsumerGroupOffsets(text("group")).partitionsToOffsetAndMetadata().get();
        return groupPositions(offsets);
    }

    /** As {@link #groupOffsets}, with the leader epoch. */
    private JsonNode groupCommits() throws Exception {
        var offsets = admin().listConsumerGroupOffsets(text("group")).partitionsToOffsetAndMetadata().get();
        JsonNode commits = groupOffsets();
        commits.forEach(commit -> {
            var partition = new TopicPartition(commit.get("topic").asText(), commit.get("partition").asInt());
            ((ObjectNode) commit).put("leader_epoch", offsets.get(partition).leaderEpoch().orElse(null));
        });
        return commits;
    }

    private KafkaConsumer<byte[], byte[]> member(Map<String, Object> more) {
        var settings = clientSettings();
        settings.put("group.id", text("group"));
        settings.put("enable.auto.commit", false);
        settings.put("auto.offset.reset", "earliest");
        settings.put("allow.auto.create.topics", false);
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** A position written by a consumer that assigns itself its partition, without membership. */
    private JsonNode assignAndCommit() {
        try (var consumer = member(Map.of())) {
            consumer.assign(List.of(partition()));
            JsonNode epoch = request.get("leader_epoch");
            consumer.commitSync(Map.of(partition(), new OffsetAndMetadata(
                    request.get("offset").asLong(),
                    epoch.isNull() ? Optional.empty() : Optional.of(epoch.asInt()),
                    text("metadata"))));
        }
        return JSON.nullNode();
    }

    private record Member(KafkaConsumer<byte[], byte[]> consumer, Thread thread) {}

    private static final Map<String, Member> MEMBERS = new ConcurrentHashMap<>();

    /** Joins with a consumer that stays until {@code leave_group}; answers once it has read and committed. */
    private JsonNode joinGroup() throws Exception {
        var consumer = member(Map.of("group.protocol", text("protocol")));
        consumer.subscribe(List.of(topic()));
        var deadline = System.nanoTime() + 60_000_000_000L;
        while (consumer.assignment().isEmpty()) {
            consumer.poll(POLL);
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("no assignment within 60 s");
            }
        }
        // Of an empty partition, too.
        consumer.assignment().forEach(consumer::position);
        consumer.commitSync();
        var thread = new Thread(() -> {
            try (consumer) {
                while (true) {
                    consumer.poll(POLL);
                }
            } catch (org.apache.kafka.common.errors.WakeupException e) {
                // It has left.
            }
        });
        thread.setDaemon(true);
        thread.start();
        MEMBERS.put(text("bootstrap") + " " + text("group"), new Member(consumer, thread));
        return JSON.nullNode();
    }

    private JsonNode leaveGroup() throws Exception {
        var member = MEMBERS.remove(text("bootstrap") + " " + text("group"));
        member.consumer.wakeup();
        member.thread.join();
        return JSON.nullNode();
    }

    // ---- writing

    private static byte[] bytes(JsonNode hex) {
        return hex == null || hex.isNull() ? null : HEX.parseHex(hex.asText());
    }

    private ProducerRecord<byte[], byte[]> record(JsonNode r) {
        JsonNode timestamp = r.get("timestamp");
        var record = new ProducerRecord<>(
                r.get("topic").asText(),
                r.get("partition").asInt(),
                timestamp == null || timestamp.isNull() ? null : (Long) timestamp.asLong(),
                bytes(r.get("key")),
                bytes(r.get("value")));
        if (r.has("headers")) {
            for (JsonNode header : r.get("headers")) {
                record.headers().add(new RecordHeader(
                        new String(bytes(header.get(0)), StandardCharsets.UTF_8), bytes(header.get(1))));
            }
        }
        return record;
    }

    /** Plain records in one go; answers their offsets in the order given. */
    private JsonNode produce() throws Exception {
        try (var producer = producer(Map.of("acks", "all", "compression.type", text("compression")))) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (JsonNode r : request.get("records")) {
                sent.add(producer.send(record(r)));
            }
            producer.flush();
            return offsetsOf(sent);
        }
    }

    private static JsonNode offsetsOf(List<Future<RecordMetadata>> sent) throws Exception {
        ArrayNode offsets = JSON.createArrayNode();
        for (var each : sent) {
            offsets.add(each.get().offset());
        }
        return offsets;
    }

    /**
     * Carries out begin, send, commit, abort and close under one transactional id; what is left open stays open
     * until a later request under the same id ends it. Answers the offsets of what was sent.
     */
    private JsonNode transaction() throws Exception {
        String key = text("bootstrap") + " " + text("transactional_id");
        var producer = TRANSACTIONAL.computeIfAbsent(key, k -> {
            var created = producer(Map.of(
                    "transactional.id", text("transactional_id"), "transaction.timeout.ms", 600_000));
            created.initTransactions();
            return created;
        });
        var sent = new ArrayList<Future<RecordMetadata>>();
        for (JsonNode step : request.get("steps")) {
            switch (step.get("step").asText()) {
                case "begin" -> producer.beginTransaction();
                case "send" -> sent.add(producer.send(record(step)));
                case "commit" -> producer.commitTransaction();
                case "abort" -> {
                    // An abort drops what has not left the client; here it must have been on the broker.
                    producer.flush();
                    producer.abortTransaction();
                }
                case "close" -> {
                    producer.flush();
                    producer.close(Duration.ZERO);
                    TRANSACTIONAL.remove(key);
                }
                default -> throw new IllegalArgumentException("unknown step: " + step);
            }
        }
        if (TRANSACTIONAL.containsKey(key)) {
            producer.flush();
        }
        return offsetsOf(sent);
    }

    /** Many transactions; every {@code abort_every}-th of them (0: none) is aborted, its keys start with "aborted-". */
    private JsonNode transactionalLoad() throws Exception {
        int partitions = request.get("partitions").asInt();
        int transactions = request.get("transactions").asInt();
        int perTransaction = request.get("records_per_transaction").asInt();
        int abortEvery = request.get("abort_every").asInt();
        byte[] value = new byte[request.get("value_bytes").asInt()];
        Arrays.fill(value, (byte) 'v');
        long committed = 0;
        long aborted = 0;
        try (var producer = producer(Map.of(
                "transactional.id", "load-" + topic(), "linger.ms", 1, "transaction.timeout.ms", 60_000))) {
            producer.initTransactions();
            for (int t = 1; t <= transactions; t++) {
                boolean abort = abortEvery > 0 && t % abortEvery == 0;
                producer.beginTransaction();
                for (int i = 0; i < perTransaction; i++) {
                    long n = abort ? aborted++ : committed++;
                    byte[] key = ((abort ? "aborted-" : "k-") + n).getBytes(StandardCharsets.UTF_8);
                    producer.send(new ProducerRecord<>(topic(), (int) (n % partitions), key, value));
                }
                producer.flush();
                if (abort) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
        return JSON.createObjectNode().put("committed", committed).put("aborted", aborted);
    }

    // ---- MM2's own classes

    private static final Duration CLIENT_TIMEOUT = Duration.ofSeconds(10);

    /** Calls what is not public, as MM2's classes call each other. */
    private static Object call(Class<?> type, Object object, String name, Class<?>[] types, Object... arguments)
            throws Exception {
        Method method = type.getDeclaredMethod(name, types);
        method.setAccessible(true);
        try {
            return method.invoke(object, arguments);
        } catch (InvocationTargetException e) {
            throw e.getCause() instanceof Exception cause ? cause : e;
        }
    }

    private static Object call(Object object, String name) throws Exception {
        return call(object.getClass(), object, name, new Class<?>[0]);
    }

    private static ConsumerRecord<byte[], byte[]> raw(JsonNode record) {
        return new ConsumerRecord<>("any", 0, 0, bytes(record.get("key")), bytes(record.get("value")));
    }

    private static ObjectNode keyValue(byte[] key, byte[] value) {
        return JSON.createObjectNode().put("key", hex(key)).put("value", hex(value));
    }

    /** One of MM2's three records as its class writes it. */
    private JsonNode mm2Encode() throws Exception {
        Object record = switch (text("kind")) {
            case "heartbeat" -> new Heartbeat(text("source"), text("target"), request.get("timestamp").asLong());
            case "checkpoint" -> new Checkpoint(text("group"), partition(), request.get("upstream").asLong(),
                    request.get("downstream").asLong(), text("metadata"));
            default -> new OffsetSync(
                    partition(), request.get("upstream").asLong(), request.get("downstream").asLong());
        };
        return keyValue((byte[]) call(record, "recordKey"), (byte[]) call(record, "recordValue"));
    }

    /** What MM2's class reads from a record; the names are those of the request of mm2_encode. */
    private JsonNode mm2Decode() {
        var record = raw(request);
        ObjectNode out = JSON.createObjectNode().put("kind", text("kind"));
        switch (text("kind")) {
            case "heartbeat" -> {
                var it = Heartbeat.deserializeRecord(record);
                out.put("source", it.sourceClusterAlias())
                        .put("target", it.targetClusterAlias())
                        .put("timestamp", it.timestamp());
            }
            case "checkpoint" -> {
                var it = Checkpoint.deserializeRecord(record);
                out.put("group", it.consumerGroupId())
                        .put("topic", it.topicPartition().topic())
                        .put("partition", it.topicPartition().partition())
                        .put("upstream", it.upstreamOffset())
                        .put("downstream", it.downstreamOffset())
                        .put("metadata", it.metadata());
            }
            default -> {
                var it = OffsetSync.deserializeRecord(record);
                out.put("topic", it.topicPartition().topic())
                        .put("partition", it.topicPartition().partition())
                        .put("upstream", it.upstreamOffset())
                        .put("downstream", it.downstreamOffset());
            }
        }
        return out;
    }

    /** What kafka-console-consumer prints with MM2's formatter. */
    private JsonNode mm2Format() throws IOException {
        MessageFormatter formatter = switch (text("kind")) {
            case "heartbeat" -> new HeartbeatFormatter();
            case "checkpoint" -> new CheckpointFormatter();
            default -> new OffsetSyncFormatter();
        };
        var out = new ByteArrayOutputStream();
        try (formatter; var print = new PrintStream(out, true, StandardCharsets.UTF_8)) {
            formatter.writeTo(raw(request), print);
        }
        return JSON.getNodeFactory().textNode(out.toString(StandardCharsets.UTF_8).strip());
    }

    /**
     * A position as Connect stores it: what MirrorSourceTask hands over, through OffsetStorageWriter's converter,
     * and the partition among {@code partitions} that the default partitioner chooses.
     */
    private JsonNode connectOffset() throws Exception {
        try (var converter = new JsonConverter()) {
            converter.configure(Map.of("schemas.enable", false), true);
            Object wrapped = call(MirrorUtils.class, null, "wrapPartition",
                    new Class<?>[] {TopicPartition.class, String.class}, partition(), text("cluster"));
            byte[] key = converter.fromConnectData("any", null, List.of(text("connector"), wrapped));
            byte[] value = converter.fromConnectData(
                    "any", null, MirrorUtils.wrapOffset(request.get("offset").asLong()));
            int partition = BuiltInPartitioner.partitionForKey(key, request.get("partitions").asInt());
            return keyValue(key, value).put("partition", partition);
        }
    }

    /**
     * MM2's store of offset syncs, fed with records: those of {@code startup} while it reads its topic for the
     * first time, those of {@code live} after. Answers the translation of each of {@code offsets}: null where it
     * has none, −1 where the offset is older than its oldest sync.
     */
    private JsonNode offsetSyncStore() throws Exception {
        var constructor = OffsetSyncStore.class.getDeclaredConstructor();
        constructor.setAccessible(true);
        try (OffsetSyncStore store = constructor.newInstance()) {
            set(store, "initializationMustReadToEnd", request.get("must_read_to_end").asBoolean());
            for (JsonNode record : request.get("startup")) {
                call(OffsetSyncStore.class, store, "handleRecord",
                        new Class<?>[] {ConsumerRecord.class}, raw(record));
            }
            set(store, "readToEnd", true);
            for (JsonNode record : request.get("live")) {
                call(OffsetSyncStore.class, store, "handleRecord",
                        new Class<?>[] {ConsumerRecord.class}, raw(record));
            }
            ArrayNode out = JSON.createArrayNode();
            for (JsonNode offset : request.get("offsets")) {
                OptionalLong translated = store.translateDownstream("any", partition(), offset.asLong());
                out.add(translated.isPresent() ? (Long) translated.getAsLong() : null);
            }
            return out;
        }
    }

    private static void set(OffsetSyncStore store, String name, boolean value) throws Exception {
        Field field = OffsetSyncStore.class.getDeclaredField(name);
        field.setAccessible(true);
        field.setBoolean(store, value);
    }

    /** A context that MM2's connectors hold and, where they run alone, have nothing to ask of. */
    private static <T> T nobody(Class<T> type) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, (p, method, a) -> null));
    }

    /**
     * MM2's checkpoint connector and its task, alone, with the connector's {@code properties}; the syncs and the
     * copies may be anybody's. Answers the records of its first poll that has some, none after timeout_ms. With
     * sync.group.offsets.enabled the task also moves the groups on the target, as it does while it polls.
     */
    private JsonNode checkpointTask() throws Exception {
        var connector = new MirrorCheckpointConnector();
        connector.initialize(nobody(ConnectorContext.class));
        connector.start(stringMap(request.get("properties")));
        long deadline = System.nanoTime() + request.get("timeout_ms").asLong() * 1_000_000;
        try {
            var configs = List.<Map<String, String>>of();
            while (configs.isEmpty()) {
                try {
                    configs = connector.taskConfigs(1);
                } catch (RetriableException e) {
                    // It has not listed the groups yet.
                }
                if (configs.isEmpty()) {
                    if (System.nanoTime() > deadline) {
                        return JSON.createArrayNode();
                    }
                    Thread.sleep(50);
                }
            }
            var task = new MirrorCheckpointTask();
            task.initialize(nobody(SourceTaskContext.class));
            task.start(configs.get(0));
            try {
                List<SourceRecord> records = null;
                while ((records == null || records.isEmpty()) && System.nanoTime() < deadline) {
                    records = task.poll();
                }
                ArrayNode out = JSON.createArrayNode();
                for (SourceRecord record : records == null ? List.<SourceRecord>of() : records) {
                    out.add(keyValue((byte[]) record.key(), (byte[]) record.value())
                            .put("topic", record.topic())
                            .put("partition", record.kafkaPartition())
                            .put("timestamp", record.timestamp()));
                }
                return out;
            } finally {
                task.stop();
            }
        } finally {
            connector.stop();
        }
    }

    /** What an application that fails over would configure; {@code properties} says more, such as the policy. */
    private Map<String, Object> mirrorClientProperties() {
        var properties = new HashMap<String, Object>(stringMap(request.get("properties")));
        properties.put("bootstrap.servers", text("bootstrap"));
        return properties;
    }

    private interface Question {
        JsonNode ask(MirrorClient client) throws Exception;
    }

    private JsonNode mirrorClient(Question question) throws Exception {
        try (var client = new MirrorClient(mirrorClientProperties())) {
            return question.ask(client);
        }
    }

    private static JsonNode sorted(Set<String> names) {
        return JSON.valueToTree(names.stream().sorted().toList());
    }

    private static JsonNode groupPositions(Map<TopicPartition, OffsetAndMetadata> offsets) {
        ArrayNode out = JSON.createArrayNode();
        offsets.entrySet().stream()
                .filter(e -> e.getValue() != null)
                .sorted(Comparator.comparing(
                                (Map.Entry<TopicPartition, OffsetAndMetadata> e) -> e.getKey().topic())
                        .thenComparing(e -> e.getKey().partition()))
                .forEach(e -> out.addObject()
                        .put("topic", e.getKey().topic())
                        .put("partition", e.getKey().partition())
                        .put("offset", e.getValue().offset())
                        .put("metadata", e.getValue().metadata()));
        return out;
    }
}
