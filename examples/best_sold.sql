-- Which items are bought most, how do buyers rate them, and do they have a photo that the model can see?
-- photo_share is the share of items with a photo among this item and all that sell better.
WITH rated AS (
    SELECT item_id, avg(rating) AS mean_stars
    FROM 'data/sample/sequences/interactions/*.parquet'
    GROUP BY item_id
)
SELECT
    item_id,
    coalesce(title, item_key) AS item,
    num_interactions AS bought,
    round(mean_stars, 2) AS mean_stars,
    status AS photo,
    round(avg((status = 'ok')::INT) OVER (ORDER BY num_interactions DESC, item_id), 3) AS photo_share
FROM 'data/sample/sequences/items/*.parquet'
JOIN 'data/sample/images/embeddings/*.parquet' USING (item_id)
LEFT JOIN rated USING (item_id)
ORDER BY bought DESC, item_id
LIMIT 20;
