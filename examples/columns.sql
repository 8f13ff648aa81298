-- What does a column mean, and in which unit is it?
-- Every Parquet file of the pipeline has it in its metadata. Replace records/reviews by the folder of another table.
WITH said AS (
    SELECT decode(value)::JSON AS columns
    FROM parquet_kv_metadata('data/sample/records/reviews/part-00000.parquet')
    WHERE decode(key) = 'columns'
),
names AS (
    SELECT unnest(json_keys(columns)) AS name, columns
    FROM said
)
SELECT
    name,
    columns ->> name ->> 'meaning' AS meaning,
    nullif(columns ->> name ->> 'unit', '') AS unit
FROM names;
