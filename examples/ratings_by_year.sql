-- How does the mix of ratings change over the years? Counts of each star, and the mean.
-- timestamp is in Unix seconds; a dump without times or ratings (p5) gives no rows.
SELECT
    year(make_timestamp(timestamp * 1000000)) AS year,
    count(*) AS reviews,
    count(*) FILTER (rating = 1) AS one,
    count(*) FILTER (rating = 2) AS two,
    count(*) FILTER (rating = 3) AS three,
    count(*) FILTER (rating = 4) AS four,
    count(*) FILTER (rating = 5) AS five,
    round(avg(rating), 2) AS mean_stars
FROM 'data/sample/records/reviews/*.parquet'
WHERE rating IS NOT NULL AND timestamp IS NOT NULL
GROUP BY year
ORDER BY year;
