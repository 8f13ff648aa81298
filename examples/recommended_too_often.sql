-- Does the model recommend the same few items to everybody?
-- By prompt: the share of the catalogue in any user's top ten, and the share of all top-ten ranks that the ten most frequent items take.
WITH shown AS (
    SELECT prompt_id, item_id, count(*) AS times
    FROM 'data/sample/predictions/*.parquet'
    WHERE rank <= 10
    GROUP BY prompt_id, item_id
),
ordered AS (
    SELECT *, row_number() OVER (PARTITION BY prompt_id ORDER BY times DESC, item_id) AS place
    FROM shown
)
SELECT
    prompt_id,
    count(*) AS items_shown,
    round(count(*) / (SELECT count(*) FROM 'data/sample/sequences/items/*.parquet'), 3) AS share_of_catalogue,
    round(sum(times) FILTER (place <= 10) / sum(times), 3) AS share_of_ten_most_shown
FROM ordered
GROUP BY prompt_id
ORDER BY prompt_id;
