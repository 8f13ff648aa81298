-- Which items look most alike to the image encoder? For the best-sold item with a photo: its ten nearest by cosine.
-- The sample's encoder is untrained: it tells colours and shapes apart, not meanings.
WITH photos AS (
    SELECT item_id, embedding::FLOAT[] AS photo
    FROM 'data/sample/images/embeddings/*.parquet'
    WHERE status = 'ok'
),
items AS (
    SELECT item_id, coalesce(title, item_key) AS item, category, num_interactions, photo
    FROM 'data/sample/sequences/items/*.parquet'
    JOIN photos USING (item_id)
),
query AS (
    SELECT * FROM items ORDER BY num_interactions DESC, item_id LIMIT 1
)
SELECT
    query.item AS looks_like,
    items.item,
    items.category,
    round(list_cosine_similarity(query.photo, items.photo), 3) AS cosine
FROM items, query
WHERE items.item_id <> query.item_id
ORDER BY cosine DESC, items.item_id
LIMIT 10;
