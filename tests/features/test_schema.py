import pytest

from features import schema

DESIGN = {
    "records/reviews": "user_key item_key rating timestamp user_name headline text helpful_votes source line",
    "records/items": "item_key title brand price categories description image_url source line",
    "records/rejects": "source line reason excerpt",
    "sequences/users": "user_id user_key name num_interactions",
    "sequences/items": "item_id item_key title brand category num_interactions num_train",
    "sequences/interactions": "user_id position item_id rating timestamp split",
    "explanations": "user_id item_id rating headline feature sentence split",
    "sentences": "user_id item_id rating word sentence",
    "candidates": "user_id split item_ids",
    "images/embeddings": "item_id embedding status sha256",
    "texts": "item_id embedding",
    "identifiers": "item_id code text",
    "prompts/train/direct": (
        "example_id split family prompt_id user_id target_item_id image_item_ids candidate_item_ids source target"
    ),
    "predictions": "user_id prompt_id rank item_id score",
}  # fmt: skip


@pytest.mark.parametrize("name", DESIGN)
def test_tables_have_the_columns_that_others_read(name: str) -> None:
    table = schema.by_name(name)
    declared = table if isinstance(table, schema.Table) else table(4)
    assert set(DESIGN[name].split()) <= set(declared.arrow.names)


@pytest.mark.parametrize("name", DESIGN)
def test_every_column_has_a_meaning_and_every_key_is_a_column(name: str) -> None:
    table = schema.by_name(name)
    declared = table if isinstance(table, schema.Table) else table(4)
    assert all(column.meaning for column in declared.columns)
    assert set(declared.key) <= set(declared.arrow.names)


def test_embedding_width_is_part_of_the_type() -> None:
    assert schema.embeddings(512).arrow.field("embedding").type.list_size == 512


def test_units_and_meanings_travel_in_the_field_metadata() -> None:
    field = schema.REVIEWS.arrow.field("timestamp")
    assert field.metadata[b"unit"] == b"seconds since 1970, UTC"
    assert field.nullable
