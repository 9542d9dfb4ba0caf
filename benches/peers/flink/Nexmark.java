// Nexmark on Flink SQL in a local mini-cluster: java -cp 'LIB/*' Nexmark.java FILE queries.sql QUERY [RUNS]
//
// Heap state, no checkpoints, objects reused, mini-batches, parallelism 1, rows into a blackhole.
// Runs the query several times in one JVM, since the first run compiles, and prints a line of JSON
// for each: the query, wall and CPU seconds, peak memory in KiB.

import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.TableDescriptor;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.catalog.ResolvedSchema;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.TimestampType;

public class Nexmark {
    public static void main(String[] args) throws Exception {
        String file = Path.of(args[0]).toAbsolutePath().toString();
        Map<String, String> statements = statements(Path.of(args[1]));
        String query = args[2];
        int runs = args.length > 3 ? Integer.parseInt(args[3]) : 3;
        if (!statements.containsKey(query)) {
            throw new IllegalArgumentException("no query '" + query + "' here");
        }
        for (int run = 0; run < runs; run++) {
            long began = System.nanoTime();
            long used = cpuNanos();
            StreamTableEnvironment tables = environment();
            for (String each : statements.get("tables").replace("${FILE}", file).split(";")) {
                if (!each.isBlank()) {
                    tables.executeSql(each);
                }
            }
            var answer = tables.sqlQuery(statements.get(query));
            tables.createTemporaryTable("nowhere", TableDescriptor.forConnector("blackhole")
                .schema(plain(answer.getResolvedSchema())).build());
            answer.executeInsert("nowhere").await();
            System.out.printf("{\"query\":\"%s\",\"seconds\":%.3f,\"cpu_seconds\":%.2f,\"peak_kib\":%d}%n",
                query, (System.nanoTime() - began) / 1e9, (cpuNanos() - used) / 1e9, peakKib());
        }
        System.exit(0);
    }

    /** The statements of a file by the names in their headings, which are lines "-- NAME". */
    static Map<String, String> statements(Path file) throws Exception {
        Map<String, String> found = new LinkedHashMap<>();
        String name = null;
        for (String line : Files.readAllLines(file)) {
            if (line.matches("-- \\w+")) {
                name = line.substring(3).trim();
            } else if (name != null && !line.startsWith("--")) {
                found.merge(name, line + "\n", String::concat);
            }
        }
        return found;
    }

    /** The columns of an answer as a sink has them: an attribute of time is a plain time there. */
    static Schema plain(ResolvedSchema answer) {
        Schema.Builder schema = Schema.newBuilder();
        for (Column column : answer.getColumns()) {
            DataType type = column.getDataType();
            if (type.getLogicalType() instanceof TimestampType time) {
                type = DataTypes.TIMESTAMP(time.getPrecision());
            }
            schema.column(column.getName(), type);
        }
        return schema.build();
    }

    static StreamTableEnvironment environment() {
        Map<String, String> settings = new LinkedHashMap<>();
        settings.put("parallelism.default", "1");
        settings.put("pipeline.object-reuse", "true");
        settings.put("state.backend.type", "hashmap");
        settings.put("table.exec.mini-batch.enabled", "true");
        settings.put("table.exec.mini-batch.allow-latency", "500 ms");
        settings.put("table.exec.mini-batch.size", "20000");
        settings.put("table.local-time-zone", "UTC");
        settings.put("taskmanager.memory.managed.size", "256m");
        var configuration = Configuration.fromMap(settings);
        var streams = StreamExecutionEnvironment.getExecutionEnvironment(configuration);
        var tables = StreamTableEnvironment.create(streams);
        settings.forEach((key, value) -> {
            if (key.startsWith("table.")) {
                tables.getConfig().set(key, value);
            }
        });
        return tables;
    }

    static long cpuNanos() {
        var system = (com.sun.management.OperatingSystemMXBean)
            ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime();
    }

    static long peakKib() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("[^0-9]", ""));
            }
        }
        return 0;
    }
}
