-- The queries in Flink SQL, in the meaning of queries/. A heading names what follows it.

-- tables
CREATE TABLE events (
    event_type INT,
    person ROW<id BIGINT, name STRING, city STRING, state STRING, `dateTime` BIGINT>,
    auction ROW<id BIGINT, `dateTime` BIGINT, expires BIGINT, seller BIGINT, category BIGINT>,
    bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, `dateTime` BIGINT, extra STRING>,
    ts AS CAST(TO_TIMESTAMP_LTZ(
        COALESCE(bid.`dateTime`, auction.`dateTime`, person.`dateTime`), 3) AS TIMESTAMP(3)),
    WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${FILE}', 'format' = 'json');
CREATE TABLE clicks_file (
    user_id STRING, click_time BIGINT,
    ts AS CAST(TO_TIMESTAMP_LTZ(click_time, 3) AS TIMESTAMP(3)),
    WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${FILE}', 'format' = 'json');
CREATE VIEW people AS
    SELECT person.id, person.name, person.city, person.state, ts FROM events WHERE event_type = 0;
CREATE VIEW auctions AS
    SELECT auction.id, auction.seller, auction.category, ts,
        CAST(TO_TIMESTAMP_LTZ(auction.expires, 3) AS TIMESTAMP(3)) AS expires
    FROM events WHERE event_type = 1;
CREATE VIEW bids AS
    SELECT bid.auction, bid.bidder, bid.price, bid.channel, ts, bid.extra
    FROM events WHERE event_type = 2;

-- q0
SELECT auction, bidder, price, ts, extra FROM bids

-- q1
SELECT auction, bidder, 0.908 * price AS euros, ts, extra FROM bids

-- q2
SELECT auction, price FROM bids WHERE MOD(auction, 123) = 0

-- q3
SELECT name, city, state, auctions.id
FROM auctions JOIN people ON seller = people.id
WHERE category = 10 AND state IN ('OR', 'ID', 'CA')

-- q4
SELECT category, AVG(best) AS mean
FROM (
    SELECT id, category, MAX(price) AS best
    FROM auctions JOIN bids ON auction = id AND bids.ts BETWEEN auctions.ts AND expires
    GROUP BY id, category)
GROUP BY category

-- q5
WITH counts AS (
    SELECT auction, window_start, window_end, COUNT(*) AS n
    FROM TABLE(HOP(TABLE bids, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end),
tops AS (
    SELECT window_start, window_end, MAX(n) AS most FROM counts GROUP BY window_start, window_end)
SELECT auction, n, counts.window_start, counts.window_end
FROM counts JOIN tops
    ON counts.window_start = tops.window_start AND counts.window_end = tops.window_end AND n >= most

-- q7
SELECT auction, bids.price, bidder, ts, extra
FROM bids JOIN (
    SELECT MAX(price) AS price, window_end AS till
    FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND))
    GROUP BY window_start, window_end) AS best
ON bids.price = best.price
WHERE ts BETWEEN till - INTERVAL '10' SECOND AND till

-- q8
SELECT newcomers.id, name, newcomers.window_start
FROM (
    SELECT id, name, window_start, window_end
    FROM TABLE(TUMBLE(TABLE people, DESCRIPTOR(ts), INTERVAL '10' SECOND))
    GROUP BY id, name, window_start, window_end) AS newcomers
JOIN (
    SELECT seller, window_start, window_end
    FROM TABLE(TUMBLE(TABLE auctions, DESCRIPTOR(ts), INTERVAL '10' SECOND))
    GROUP BY seller, window_start, window_end) AS sellers
ON newcomers.id = seller AND newcomers.window_start = sellers.window_start
    AND newcomers.window_end = sellers.window_end

-- q11
SELECT bidder, COUNT(*) AS n,
    SESSION_START(ts, INTERVAL '10' SECOND) AS started, SESSION_END(ts, INTERVAL '10' SECOND) AS ended
FROM bids GROUP BY bidder, SESSION(ts, INTERVAL '10' SECOND)

-- q15
SELECT DATE_FORMAT(ts, 'yyyy-MM-dd') AS `day`,
    COUNT(*) AS bids_all,
    COUNT(*) FILTER (WHERE price < 10000) AS bids_low,
    COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS bids_mid,
    COUNT(*) FILTER (WHERE price >= 1000000) AS bids_high,
    COUNT(DISTINCT bidder) AS bidders_all,
    COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS bidders_low,
    COUNT(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS bidders_mid,
    COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS bidders_high,
    COUNT(DISTINCT auction) AS auctions_all,
    COUNT(DISTINCT auction) FILTER (WHERE price < 10000) AS auctions_low,
    COUNT(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS auctions_mid,
    COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) AS auctions_high
FROM bids GROUP BY DATE_FORMAT(ts, 'yyyy-MM-dd')

-- q16
SELECT channel, DATE_FORMAT(ts, 'yyyy-MM-dd') AS `day`, MAX(DATE_FORMAT(ts, 'HH:mm')) AS last_minute,
    COUNT(*) AS bids_all,
    COUNT(*) FILTER (WHERE price < 10000) AS bids_low,
    COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS bids_mid,
    COUNT(*) FILTER (WHERE price >= 1000000) AS bids_high,
    COUNT(DISTINCT bidder) AS bidders_all,
    COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS bidders_low,
    COUNT(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS bidders_mid,
    COUNT(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS bidders_high,
    COUNT(DISTINCT auction) AS auctions_all,
    COUNT(DISTINCT auction) FILTER (WHERE price < 10000) AS auctions_low,
    COUNT(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS auctions_mid,
    COUNT(DISTINCT auction) FILTER (WHERE price >= 1000000) AS auctions_high
FROM bids GROUP BY channel, DATE_FORMAT(ts, 'yyyy-MM-dd')

-- q17
SELECT auction, DATE_FORMAT(ts, 'yyyy-MM-dd') AS `day`,
    COUNT(*) AS bids_all,
    COUNT(*) FILTER (WHERE price < 10000) AS bids_low,
    COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS bids_mid,
    COUNT(*) FILTER (WHERE price >= 1000000) AS bids_high,
    MIN(price) AS lowest, MAX(price) AS highest, AVG(price) AS mean, SUM(price) AS total
FROM bids GROUP BY auction, DATE_FORMAT(ts, 'yyyy-MM-dd')

-- clicks
SELECT user_id, HOP_START(ts, INTERVAL '2' MINUTE, INTERVAL '5' MINUTE) AS window_start, COUNT(*) AS clicks
FROM clicks_file GROUP BY user_id, HOP(ts, INTERVAL '2' MINUTE, INTERVAL '5' MINUTE)
