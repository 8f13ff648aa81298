-- Which lines of the dump were refused, why, and what does such a line look like?
SELECT
    source,
    reason,
    count(*) AS lines,
    round(100 * count(*) / sum(count(*)) OVER (PARTITION BY source), 1) AS percent_of_rejects,
    min(line) AS first_line,
    arg_min(excerpt, line)[:60] AS it_begins
FROM 'data/sample/records/rejects/*.parquet'
GROUP BY source, reason
ORDER BY source, lines DESC, reason;
