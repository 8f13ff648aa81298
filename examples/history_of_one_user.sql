-- What did one user buy, in time order, and which purchases are held out?
-- Here: the user with the longest history. For another one, replace the subquery by a number.
SELECT
    buys.user_id,
    users.user_key,
    buys.position,
    make_timestamp(buys.timestamp * 1000000)::DATE AS day,
    coalesce(items.title, items.item_key) AS item,
    buys.rating AS stars,
    buys.split
FROM 'data/sample/sequences/interactions/*.parquet' AS buys
JOIN 'data/sample/sequences/users/*.parquet' AS users USING (user_id)
JOIN 'data/sample/sequences/items/*.parquet' AS items USING (item_id)
WHERE buys.user_id = (
    SELECT user_id
    FROM 'data/sample/sequences/users/*.parquet'
    ORDER BY num_interactions DESC, user_id
    LIMIT 1
)
ORDER BY buys.position;
