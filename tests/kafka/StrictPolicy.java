import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.AlterConfigPolicy;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** A cluster that takes few settings of topics, and no small segments. */
public class StrictPolicy implements CreateTopicPolicy, AlterConfigPolicy {
    private static final Set<String> TAKEN = Set.of("cleanup.policy", "retention.ms", "segment.bytes");

    @Override
    public void validate(CreateTopicPolicy.RequestMetadata request) {
        check(request.topic(), request.configs());
    }

    @Override
    public void validate(AlterConfigPolicy.RequestMetadata request) {
        check(request.resource().name(), request.configs());
    }

    private static void check(String topic, Map<String, String> configs) {
        // The brokers' own topics.
        if (topic.startsWith("__")) {
            return;
        }
        for (String key : configs.keySet()) {
            if (!TAKEN.contains(key)) {
                throw new PolicyViolationException(key + " cannot be set here");
            }
        }
        if (Long.parseLong(configs.getOrDefault("segment.bytes", "1073741824")) < 50 << 20) {
            throw new PolicyViolationException("segment.bytes must be 50 MiB or more");
        }
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void close() {}
}
